-- Routing: what is to become of mail for an address. Everything that an MTA has
-- to know of an address stands in one row, whatever kind of address it is:
--
--     SELECT kind, state, backend, targets, keep_copy, greylist, spam_threshold
--       FROM route WHERE address = '<address>'
--
-- Only for an address without a row it asks the same of '@<domain>', the row of
-- the domain: no row there either means that the domain is not ours.
--
-- A client that does not look for an error after the columns of a result must not
-- take "no row" for an answer: a SQL node that has lost its data nodes describes
-- the columns first and fails then. Exim is one; ../exim/exim.conf asks for
-- COUNT(*) and ANY_VALUE(...) of the same row, which always is a row.
--
-- Input:  the address, local part and domain joined by '@', lower case (Exim's
--         ${lc:}), at most 254 bytes: the longest path that SMTP carries
--         (RFC 5321 section 4.5.3.1.3, less the angle brackets). What is stored
--         must fit: what is too long is refused (error 1406, or 3819 where it is
--         one byte too long), never cut, and so is a kind or state that there is
--         not (1265). Without strict mode MySQL cuts what is too long and makes ''
--         of such a kind or state; hence every column is one byte wider than what
--         it may hold, and a CHECK, which no sql_mode switches off, refuses the
--         rest: error 3819 instead.
-- Result: one row or none:
--         kind       'mailbox'  a mailbox on a backend; with targets, mail is
--                               forwarded to these, and with keep_copy stays too
--                    'alias'    another name of the one address in targets
--                    'list'     mail goes to each of targets
--                    'domain'   the row of a domain of ours. Its state and targets
--                               answer for addresses without a row: with '' they
--                               are unknown; with '@other' they are those of that
--                               other domain; an address takes all their mail
--         state      'active'
--                    'suspended'  refuse: the account is locked for a while
--                    'closed'     refuse: the account is gone for good
--                    'moving'     defer: the mailbox is on its way to another
--                                 backend
--         backend    the host that takes the mailbox's mail by LMTP: a host name
--                    or an IPv4 address, of letters, digits, '.' and '-' and
--                    nothing else, as an MTA takes other characters for a list of
--                    hosts, a port or an option. Who writes the row has to see to
--                    that: the table does not. '' for other kinds
--         targets    addresses in lower case joined by ',', at most 8000 bytes.
--                    None has a blank, a quote or anything else by which an MTA
--                    would take an item of a list for more than an address
--         keep_copy  of a mailbox with targets: whether mail also stays here
--         greylist   0 where the owner wants no greylisting
--         spam_threshold  the score in percent, 1 to 100, from which mail goes to
--                    the spam folder; an alias has that of its target, a list one
--                    of its own
-- Cost:   one read by primary key, one round trip to a data node; one more for
--         an address without a row.
-- Source: this harness. An MTA that knows the backend delivers to it by LMTP
--         and needs no Cyrus Murder in between.
--
-- By hand: mysql DATABASE < routing.sql, on one SQL node: NDB shows the table
-- to the others. For another storage engine replace ENGINE=NDBCLUSTER.

CREATE TABLE IF NOT EXISTS route (
  -- Bytes, compared as they are: a collation would make different addresses
  -- the same, and each comparison dearer.
  address VARBINARY(255) NOT NULL CHECK (LENGTH(address) BETWEEN 1 AND 254),
  kind    ENUM('mailbox', 'alias', 'list', 'domain') CHARACTER SET ascii NOT NULL DEFAULT 'mailbox' CHECK (kind <> ''),
  state   ENUM('active', 'suspended', 'closed', 'moving') CHARACTER SET ascii NOT NULL DEFAULT 'active' CHECK (state <> ''),
  backend VARCHAR(256) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' CHECK (LENGTH(backend) <= 255),
  -- Some 250 addresses; a longer list is a list of lists. A column that may be
  -- long takes no memory for what it does not hold.
  targets VARBINARY(8001) NOT NULL DEFAULT '' CHECK (LENGTH(targets) <= 8000),
  keep_copy      BOOLEAN NOT NULL DEFAULT TRUE,
  greylist       BOOLEAN NOT NULL DEFAULT TRUE,
  -- CalMail's default (lib.berkeley.edu/LSO/calmail.html)
  spam_threshold TINYINT UNSIGNED NOT NULL DEFAULT 70 CHECK (spam_threshold BETWEEN 1 AND 100),
  -- Nobody asks for a range of addresses: no ordered index beside the hash.
  -- As an option of a column USING HASH is a syntax error.
  PRIMARY KEY (address) USING HASH
) ENGINE=NDBCLUSTER;
