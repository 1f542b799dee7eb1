-- Accounts: who has an account, and what the other paths must know of it. The
-- rows that an MTA reads (route), and the preferences (userprefs) and the address
-- book (address) of the webmail belong to an account; whoever changes an account
-- changes them with it, in one transaction:
--
--     START TRANSACTION
--     INSERT INTO account_change (change_id, login, action, at_s) VALUES (...)
--     SELECT * FROM account WHERE login = '<login>' FOR UPDATE
--     ... what is to change in account, account_address, route, userprefs, address ...
--     COMMIT
--
-- The INSERT comes first. It makes a change happen once, however often its
-- transaction is sent: error 1062 says that it has been committed before. After
-- a COMMIT without an answer (connection lost, NDB 4009, ...) ask
--
--     SELECT login, action FROM account_change WHERE change_id = <id> FOR SHARE
--
-- which waits for a transaction that is still under way: a row says that the
-- change happened, no row that the same transaction may be sent again.
--
-- Input:  login at most 128 bytes: the webmail's user name, and the address that
--         the account's mail comes to, lower case; full_name 255,
--         affiliation 64, backend and moving_to 255, targets 8000, address 254;
--         longer ones are refused (error 1406, or 3819 where they are one byte too
--         long, and in any case without strict mode), never cut, as in route.
--         change_id has 16 bytes of the caller's choice and is never used twice.
--         Times are the caller's, in seconds since 1970; the server's own clock is
--         not used.
-- Result: one row or none for a login. Every account has these rows in route:
--         login                kind 'mailbox', its state, backend, targets,
--                              keep_copy, greylist and spam_threshold
--         each account_address kind 'alias' for login; 'suspended' or 'closed'
--                              when the account is; its greylist and
--                              spam_threshold
-- Cost:   five round trips to the data nodes for a new account, seven for a change
--         of one without other addresses; for each further row one more if it is
--         new or goes, two if it changes: an UPDATE reads what a CHECK may ask for.
--         And scans of one partition, of three waits each: one of account_address
--         for a change, of userprefs and address one each for a new account and two
--         each for a rename.
-- Source: this harness; columns as CalMail's features need them. That one row
--         of an account moves in one transaction with its routes is what a
--         directory (LDAP) does not offer.
--
-- The preferences and the address book of a renamed account move with it. A
-- webmail session of the old name must not go on: what it saves belongs to nobody.
-- A login for which userprefs or address have rows is given to nobody, neither to
-- a new account nor by a rename: its owner would see what somebody else has
-- written. Whether these rows are left-overs only a person can say, who deletes
-- them then. So an account is created before its preferences are loaded.
--
-- By hand: mysql DATABASE < accounts.sql, on one SQL node: NDB shows the tables
-- to the others. For another storage engine replace ENGINE=NDBCLUSTER.

CREATE TABLE IF NOT EXISTS account (
  -- Bytes, compared as they are, as in route and userprefs.
  login       VARBINARY(129) NOT NULL CHECK (LENGTH(login) BETWEEN 1 AND 128),
  -- UTF-8, and so is the affiliation, such as 'student'.
  full_name   VARBINARY(256) NOT NULL DEFAULT '' CHECK (LENGTH(full_name) <= 255),
  affiliation VARBINARY(65)  NOT NULL DEFAULT '' CHECK (LENGTH(affiliation) <= 64),
  state       ENUM('active', 'suspended', 'closed', 'moving') CHARACTER SET ascii NOT NULL DEFAULT 'active' CHECK (state <> ''),
  backend     VARCHAR(256) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (LENGTH(backend) BETWEEN 1 AND 255),
  -- The backend that a move leads to.
  moving_to   VARCHAR(256) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' CHECK (LENGTH(moving_to) <= 255),
  quota_mb    INT UNSIGNED NOT NULL DEFAULT 0, -- 0 for none
  -- Where mail is forwarded to, as in route.
  targets     VARBINARY(8001) NOT NULL DEFAULT '' CHECK (LENGTH(targets) <= 8000),
  keep_copy   BOOLEAN NOT NULL DEFAULT TRUE,
  greylist    BOOLEAN NOT NULL DEFAULT TRUE,
  spam_threshold TINYINT UNSIGNED NOT NULL DEFAULT 70 CHECK (spam_threshold BETWEEN 1 AND 100),
  created_s   INT UNSIGNED NOT NULL,
  changed_s   INT UNSIGNED NOT NULL,
  PRIMARY KEY (login) USING HASH
) ENGINE=NDBCLUSTER;

-- The other addresses of an account. Which account an address belongs to says
-- its row in route.
CREATE TABLE IF NOT EXISTS account_address (
  login   VARBINARY(129) NOT NULL CHECK (LENGTH(login) BETWEEN 1 AND 128),
  address VARBINARY(255) NOT NULL CHECK (LENGTH(address) BETWEEN 1 AND 254),
  PRIMARY KEY (login, address)
) ENGINE=NDBCLUSTER
  -- All addresses of an account are in one partition, as its preferences are.
  PARTITION BY KEY (login);

-- Every change that was committed. Rows older than anybody who might still ask
-- for them may be deleted.
CREATE TABLE IF NOT EXISTS account_change (
  change_id VARBINARY(17)  NOT NULL CHECK (LENGTH(change_id) = 16), -- BINARY would fill up a shorter one
  login     VARBINARY(129) NOT NULL CHECK (LENGTH(login) BETWEEN 1 AND 128), -- as it was before the change
  action    ENUM('create', 'rename', 'suspend', 'resume', 'close', 'add_alias', 'remove_alias', 'set_forward',
                 'begin_move', 'finish_move', 'abort_move') CHARACTER SET ascii NOT NULL CHECK (action <> ''),
  at_s      INT UNSIGNED   NOT NULL,
  PRIMARY KEY (change_id) USING HASH
) ENGINE=NDBCLUSTER;
