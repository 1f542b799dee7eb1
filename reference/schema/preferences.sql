-- Preferences: what webmail users like. This is SquirrelMail's table userprefs
-- under its own names, as its preference backend for databases uses it.
--
-- The webmail asks once a session, and says so for every changed preference:
--
--     SELECT prefkey, prefval FROM userprefs WHERE user = '<user>'
--     REPLACE INTO userprefs (user, prefkey, prefval) VALUES (...)
--     DELETE FROM userprefs WHERE user = '<user>' AND prefkey = '<key>'
--
-- Input:  user at most 128 bytes, prefkey 64, prefval 29000; longer ones are
--         refused (error 1406), never cut. The webmail deletes a preference
--         instead of storing an empty value.
-- Result: of the SELECT one row a preference, no row for a user that has none.
-- Cost:   the SELECT is one scan of one partition, three waits for a data node
--         however many preferences there are; REPLACE two round trips.
-- Source: SquirrelMail 1.4, functions/db_prefs.php and doc/db-backend.txt.
--
-- By hand: mysql DATABASE < preferences.sql, on one SQL node: NDB shows the
-- table to the others. For another storage engine replace ENGINE=NDBCLUSTER.

CREATE TABLE IF NOT EXISTS userprefs (
  -- Bytes, compared as they are: the webmail's character set is its own affair.
  user    VARBINARY(128)   NOT NULL,
  prefkey VARBINARY(64)    NOT NULL,
  -- SquirrelMail has a BLOB here, and takes 65536 bytes. NDB keeps what exceeds
  -- 256 bytes of a BLOB in a second table: more round trips and locks for every
  -- read. A row of NDB holds 30000 bytes (error 738 beyond), so that this is the
  -- longest round size that needs no second table. Only the bytes in use take
  -- memory in the data nodes.
  prefval VARBINARY(29000) NOT NULL,
  -- The ordered index, which a hash alone lacks, finds all rows of a user.
  PRIMARY KEY (user, prefkey)
) ENGINE=NDBCLUSTER
  -- All preferences of a user are in one partition: one data node answers, and
  -- the transaction is coordinated there.
  PARTITION BY KEY (user);
