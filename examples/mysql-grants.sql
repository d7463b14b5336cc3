-- What waveimport needs of MySQL or MariaDB, and no more.
CREATE DATABASE netsuite CHARACTER SET utf8mb4;
CREATE USER 'waveimport'@'%' IDENTIFIED BY 'a password of your own';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, REFERENCES ON netsuite.* TO 'waveimport'@'%';
-- For records with refresh = "swap" too: a table with triggers is not replaced, and only who may make some is shown them.
-- GRANT TRIGGER ON netsuite.* TO 'waveimport'@'%';
