-- Accounts: who has an account, and what the other paths must know of it. The
-- rows that an MTA reads (route) and the preferences of the webmail (userprefs)
-- belong to an account; whoever changes an account changes them with it, in one
-- transaction:
--
--     START TRANSACTION
--     INSERT INTO account_change (change_id, login, action, at_s) VALUES (...)
--     SELECT * FROM account WHERE login = '<login>' FOR UPDATE
--     ... what is to change in account, account_address, route, userprefs ...
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
--         longer ones are refused (error 1406), never cut. change_id is of the
--         caller's choice and never used twice. Times are the caller's, in
--         seconds since 1970; the server's own clock is not used.
-- Result: one row or none for a login. Every account has these rows in route:
--         login                kind 'mailbox', its state, backend, targets,
--                              keep_copy, greylist and spam_threshold
--         each account_address kind 'alias' for login; 'suspended' or 'closed'
--                              when the account is
-- Cost:   five round trips to the data nodes for an account without other
--         addresses, one more for each further row that changes.
-- Source: this harness; columns as CalMail's features need them. That one row
--         of an account moves in one transaction with its routes is what a
--         directory (LDAP) does not offer.
--
-- The preferences of a renamed account move with it. A webmail session of the
-- old name must not go on: what it saves belongs to nobody.
--
-- By hand: mysql DATABASE < accounts.sql, on one SQL node: NDB shows the tables
-- to the others. For another storage engine replace ENGINE=NDBCLUSTER.

CREATE TABLE IF NOT EXISTS account (
  -- Bytes, compared as they are, as in route and userprefs.
  login       VARBINARY(128) NOT NULL,
  full_name   VARBINARY(255) NOT NULL DEFAULT '', -- UTF-8
  affiliation VARBINARY(64)  NOT NULL DEFAULT '', -- UTF-8, such as 'student'
  state       ENUM('active', 'suspended', 'closed', 'moving') CHARACTER SET ascii NOT NULL DEFAULT 'active',
  backend     VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  moving_to   VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', -- the backend that a move leads to
  quota_mb    INT UNSIGNED NOT NULL DEFAULT 0, -- 0 for none
  targets     VARBINARY(8000) NOT NULL DEFAULT '', -- where mail is forwarded to, as in route
  keep_copy   BOOLEAN NOT NULL DEFAULT TRUE,
  greylist    BOOLEAN NOT NULL DEFAULT TRUE,
  spam_threshold TINYINT UNSIGNED NOT NULL DEFAULT 70,
  created_s   INT UNSIGNED NOT NULL,
  changed_s   INT UNSIGNED NOT NULL,
  PRIMARY KEY (login) USING HASH
) ENGINE=NDBCLUSTER;

-- The other addresses of an account. Which account an address belongs to says
-- its row in route.
CREATE TABLE IF NOT EXISTS account_address (
  login   VARBINARY(128) NOT NULL,
  address VARBINARY(254) NOT NULL,
  PRIMARY KEY (login, address)
) ENGINE=NDBCLUSTER
  -- All addresses of an account are in one partition, as its preferences are.
  PARTITION BY KEY (login);

-- Every change that was committed. Rows older than anybody who might still ask
-- for them may be deleted.
CREATE TABLE IF NOT EXISTS account_change (
  change_id BINARY(16)     NOT NULL,
  login     VARBINARY(128) NOT NULL, -- as it was before the change
  action    ENUM('create', 'rename', 'suspend', 'resume', 'close', 'add_alias', 'remove_alias', 'set_forward',
                 'begin_move', 'finish_move', 'abort_move') CHARACTER SET ascii NOT NULL,
  at_s      INT UNSIGNED   NOT NULL,
  PRIMARY KEY (change_id) USING HASH
) ENGINE=NDBCLUSTER;
