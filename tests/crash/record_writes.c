/* Records what a process writes to the files below $RECORD_FOLDER, in order, into $RECORD_LOG; loaded by LD_PRELOAD.
 *
 * A record: one byte of operation (O open, W write, T truncate, S sync, U unlink), the file's number (32 bits), an
 * offset (64 bits), a length (32 bits) and so many bytes. After O the bytes are the path, and the offset is nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define FILES 1024
static char *paths[FILES];
static int numbers[FILES * 4]; /* by descriptor: number + 1 */
static int known = 0, log_fd = -1;
static const char *folder = NULL;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
#define REAL(name, type) static type real = NULL; if (!real) real = (type)dlsym(RTLD_NEXT, name)
typedef int (*open_t)(const char *, int, ...);
typedef ssize_t (*write_t)(int, const void *, size_t);
typedef ssize_t (*pwrite_t)(int, const void *, size_t, off64_t);
typedef int (*truncate_t)(int, off64_t);
typedef int (*fd_t)(int);
typedef int (*path_t)(const char *);

static void note(char op, int number, uint64_t offset, const void *data, uint32_t length) {
    REAL("write", write_t);
    struct __attribute__((packed)) { char op; int32_t number; uint64_t offset; uint32_t length; } head = {
        op, number, offset, length};
    real(log_fd, &head, sizeof head);
    if (length) real(log_fd, data, length);
}

static int number_of(const char *path) {
    for (int i = 0; i < known; i++) if (!strcmp(paths[i], path)) return i;
    if (known == FILES) return -1;
    paths[known] = strdup(path);
    note('O', known, 0, path, strlen(path));
    return known++;
}

static int watched(const char *path) {
    if (!folder) {
        folder = getenv("RECORD_FOLDER");
        REAL("open", open_t);
        const char *log = getenv("RECORD_LOG");
        if (log) log_fd = real(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    }
    return folder && log_fd >= 0 && path && !strncmp(path, folder, strlen(folder));
}

static int opened(const char *path, int fd) {
    if (fd >= 0 && fd < FILES * 4) {
        pthread_mutex_lock(&lock);
        numbers[fd] = watched(path) ? number_of(path) + 1 : 0;
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

#define NUMBER(fd) ((fd) >= 0 && (fd) < FILES * 4 ? numbers[fd] - 1 : -1)
#define RECORDED(op, fd, offset, data, length) \
    do { if (NUMBER(fd) >= 0) { pthread_mutex_lock(&lock); note(op, NUMBER(fd), offset, data, length); \
         pthread_mutex_unlock(&lock); } } while (0)
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        mode_t mode = 0; \
        if (flags & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); } \
        REAL(#name, open_t); \
        return opened(path, real(path, flags, mode)); \
    }
OPEN(open)
OPEN(open64)

#define PWRITE(name) \
    ssize_t name(int fd, const void *data, size_t length, off64_t offset) { \
        REAL(#name, pwrite_t); \
        ssize_t done = real(fd, data, length, offset); \
        if (done > 0) RECORDED('W', fd, offset, data, done); \
        return done; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int fd, const void *data, size_t length) {
    REAL("write", write_t);
    if (NUMBER(fd) >= 0) RECORDED('W', fd, lseek64(fd, 0, SEEK_CUR), data, length);
    return real(fd, data, length);
}

#define TRUNCATE(name) \
    int name(int fd, off64_t length) { \
        REAL(#name, truncate_t); \
        int done = real(fd, length); \
        if (!done) RECORDED('T', fd, length, NULL, 0); \
        return done; \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define SYNC(name) \
    int name(int fd) { \
        REAL(#name, fd_t); \
        int done = real(fd); \
        if (!done) RECORDED('S', fd, 0, NULL, 0); \
        return done; \
    }
SYNC(fsync)
SYNC(fdatasync)

int close(int fd) {
    REAL("close", fd_t);
    if (fd >= 0 && fd < FILES * 4) numbers[fd] = 0;
    return real(fd);
}

int unlink(const char *path) {
    REAL("unlink", path_t);
    if (watched(path)) { pthread_mutex_lock(&lock); note('U', number_of(path), 0, NULL, 0); pthread_mutex_unlock(&lock); }
    return real(path);
}
