-- Preferences: what webmail users like, and whom they know. These are
-- SquirrelMail's tables userprefs and address under its own names, as its
-- backends for databases use them; Roundcube's plugin squirrelmail_usercopy
-- reads them too.
--
-- The webmail reads all preferences of a user once a session, and says so for
-- every preference that has changed:
--
--     SELECT prefkey, prefval FROM userprefs WHERE user = '<user>'
--     REPLACE INTO userprefs (user, prefkey, prefval) VALUES (...)
--     DELETE FROM userprefs WHERE user = '<user>' AND prefkey = '<key>'
--
-- and of its address book:
--
--     SELECT * FROM address WHERE owner = '<user>'
--     SELECT * FROM address WHERE owner = '<user>' AND LOWER(nickname) = '<name>'
--     SELECT * FROM address WHERE owner = '<user>' AND (LOWER(firstname) LIKE
--       '%<text>%' ESCAPE '\\' OR ... lastname ... OR ... email ... OR ... nickname ...)
--     INSERT INTO address (owner, nickname, firstname, lastname, email, label) VALUES (...)
--     UPDATE address SET nickname = ..., ... WHERE owner = '<user>' AND nickname = '<name>'
--     DELETE FROM address WHERE owner = '<user>' AND (nickname = '<name>' OR ...)
--
-- Input:  in bytes: user and owner 1 to 128, prefkey 1 to 64, prefval 29000 at
--         most, nickname 1 to 16, firstname, lastname and email 128, label 255.
--         What is longer is refused (error 1406, or 3819 where it is one byte
--         too long), never cut. The webmail deletes a preference instead of
--         storing an empty value.
--         Without strict mode MySQL cuts what is too long and only warns; for a
--         user name this would hand one user's preferences to another. Hence
--         every column is one byte wider than what it may hold, and a CHECK,
--         which no sql_mode switches off, refuses what fills that byte: error
--         3819 instead of 1406. INSERT IGNORE alone turns that error into a
--         warning, and stores no row. SquirrelMail and Roundcube set no sql_mode.
-- Result: of a SELECT one row a preference or an address, no row for a user that
--         has none.
-- Cost:   reading a user's preferences is one scan of one partition: three waits
--         for a data node, however many preferences there are (four with one of
--         20,000 bytes), and none for somebody else's lock. REPLACE is two round
--         trips, DELETE one (docs/decisions/0006-preference-values.md).
-- Source: SquirrelMail 1.4, functions/db_prefs.php, functions/abook_database.php
--         and doc/db-backend.txt.
--
-- By hand: mysql DATABASE < preferences.sql, on one SQL node: NDB shows the
-- tables to the others. For another storage engine replace ENGINE=NDBCLUSTER.

CREATE TABLE IF NOT EXISTS userprefs (
  -- Bytes, compared as they are: the webmail's character set is its own affair.
  user    VARBINARY(129)   NOT NULL CHECK (LENGTH(user) BETWEEN 1 AND 128),
  prefkey VARBINARY(65)    NOT NULL CHECK (LENGTH(prefkey) BETWEEN 1 AND 64),
  -- SquirrelMail has a BLOB here, and takes 65536 bytes. NDB locks a BLOB to read
  -- it, so that a login would wait for a form that is being saved, and asks one to
  -- three times more (docs/decisions/0006-preference-values.md). A row of NDB holds
  -- 30000 bytes (error 738 beyond): this is the longest round size that fits. Only
  -- the bytes in use take memory in the data nodes.
  prefval VARBINARY(29001) NOT NULL CHECK (LENGTH(prefval) <= 29000),
  -- The ordered index, which a hash alone lacks, finds all rows of a user.
  PRIMARY KEY (user, prefkey)
) ENGINE=NDBCLUSTER
  -- All preferences of a user are in one partition: one data node answers, and
  -- the transaction is coordinated there.
  PARTITION BY KEY (user);

-- SquirrelMail also has an index on (firstname, lastname), which none of its
-- statements can use: they ask for LOWER(column) of one owner. It is left out, which
-- saves 14 bytes a row in every data node (docs/decisions/0006-preference-values.md).
CREATE TABLE IF NOT EXISTS address (
  owner     VARBINARY(129) NOT NULL CHECK (LENGTH(owner) BETWEEN 1 AND 128),
  -- Bytes as well, but SquirrelMail writes its search text in small letters and
  -- expects LOWER() to do the same here, which does nothing on VARBINARY. tis620
  -- is the one character set of MySQL that takes and compares any byte and has
  -- letter case in ASCII only, so that LOWER() leaves UTF-8 and ISO 8859 whole.
  -- A client must say that it sends bytes (character set binary, see
  -- reference/webmail): from any other character set MySQL would convert, and
  -- refuse letters that are not Thai (error 1366; without strict mode a '?').
  -- Blanks at the end do not tell nicknames apart (error 1062).
  nickname  VARCHAR(17)  CHARACTER SET tis620 COLLATE tis620_bin NOT NULL CHECK (LENGTH(nickname) BETWEEN 1 AND 16),
  firstname VARCHAR(129) CHARACTER SET tis620 COLLATE tis620_bin NOT NULL DEFAULT '' CHECK (LENGTH(firstname) <= 128),
  lastname  VARCHAR(129) CHARACTER SET tis620 COLLATE tis620_bin NOT NULL DEFAULT '' CHECK (LENGTH(lastname) <= 128),
  email     VARCHAR(129) CHARACTER SET tis620 COLLATE tis620_bin NOT NULL DEFAULT '' CHECK (LENGTH(email) <= 128),
  label     VARCHAR(256) CHARACTER SET tis620 COLLATE tis620_bin NOT NULL DEFAULT '' CHECK (LENGTH(label) <= 255),
  PRIMARY KEY (owner, nickname)
) ENGINE=NDBCLUSTER
  -- As above: every statement is about one owner.
  PARTITION BY KEY (owner);
