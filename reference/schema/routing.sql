-- Routing: where mail for an address goes.
--
-- The MTA asks, once for every recipient:
--
--     SELECT backend FROM route WHERE address = '<address>'
--
-- Input:  the address, local part and domain joined by '@', lower case (Exim's
--         ${lc:}), at most 254 bytes: the longest path that SMTP carries
--         (RFC 5321 section 4.5.3.1.3, less the angle brackets).
-- Result: one row with the host that holds the mailbox; no row for an address
--         that nobody has.
-- Cost:   one read by primary key, one round trip to a data node.
-- Source: this harness. An MTA that knows the backend delivers to it by LMTP
--         and needs no Cyrus Murder in between.
--
-- By hand: mysql DATABASE < routing.sql, on one SQL node: NDB shows the table
-- to the others. For another storage engine replace ENGINE=NDBCLUSTER.

CREATE TABLE IF NOT EXISTS route (
  -- Bytes, compared as they are: a collation would make different addresses
  -- the same, and each comparison dearer.
  address VARBINARY(254) NOT NULL,
  backend VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  -- Nobody asks for a range of addresses: no ordered index beside the hash.
  -- As an option of a column USING HASH is a syntax error.
  PRIMARY KEY (address) USING HASH
) ENGINE=NDBCLUSTER;
