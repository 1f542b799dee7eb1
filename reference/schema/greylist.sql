-- Greylist: whether a recipient is deferred, by Postgrey's rule for the triplet
-- of client network, sender and recipient.
--
-- The MTA asks, once for every RCPT command that it would accept:
--
--     CALL greylist_check('<client>', '<sender>', '<recipient>', <now>)
--
-- Input:  client     the peer's IP address as text; error 1411 for other text
--         sender     the envelope sender, '' for the null sender
--         recipient  the envelope recipient
--         now_s      the time in seconds since 1970; the server's own clock is
--                    not used, so that every MTA and every replay has its own
--         The addresses have at most 512 bytes, as Postgrey reads them; longer
--         ones are refused (error 1406), never cut.
-- Result: one result set of one row, sent when the decision is committed:
--         verdict  'new', 'early' (both: defer) or 'pass' (accept)
--         wait_s   how many seconds until the triplet would pass, 0 for 'pass'
--         A failure is an error and no row. It reaches the caller as the engine
--         raised it (1297, 1205, ...), and nothing has been stored; but after
--         an error in COMMIT itself the decision may stand.
--         There is never a second result set: Exim keeps the first one only,
--         fails every later lookup with "Commands out of sync", and does not
--         see an error that comes after a row.
-- Cost:   three round trips to the data nodes: read, write, commit.
-- Source: Postgrey 1.37, smtpd_access_policy().
--
-- By hand: mysql DATABASE < greylist.sql, on EVERY SQL node: NDB shows the
-- table to all of them, but keeps no procedures. For another storage engine
-- replace ENGINE=NDBCLUSTER.

CREATE TABLE IF NOT EXISTS greylist (
  -- The first half of a SHA-256: three columns of 255 bytes would not leave
  -- room in memory for the millions of triplets of a day, and 128 bits do not
  -- collide by chance.
  triplet    BINARY(16)   NOT NULL,
  first_seen INT UNSIGNED NOT NULL, -- seconds since 1970
  last_seen  INT UNSIGNED NOT NULL,
  PRIMARY KEY (triplet) USING HASH
) ENGINE=NDBCLUSTER;

DROP PROCEDURE IF EXISTS greylist_check;

DELIMITER //

CREATE PROCEDURE greylist_check(
  IN client    VARBINARY(45),
  IN sender    VARBINARY(512),
  IN recipient VARBINARY(512),
  IN now_s     BIGINT)
  MODIFIES SQL DATA
  SQL SECURITY INVOKER
BEGIN
  -- The policy: Postgrey's --delay and --retry-window.
  DECLARE delay_s        BIGINT DEFAULT 300;
  DECLARE retry_window_s BIGINT DEFAULT 2 * 86400;

  DECLARE ip       VARBINARY(16) DEFAULT INET6_ATON(client);
  DECLARE network  VARBINARY(8);
  DECLARE k        BINARY(16);
  DECLARE first_s  BIGINT;
  DECLARE last_s   BIGINT;
  DECLARE wait_s   BIGINT;
  DECLARE verdict  VARCHAR(5) CHARACTER SET ascii;

  -- NDB aborts the whole transaction upon any error; the rollback is for other
  -- engines, and ends the transaction on the SQL node. RESIGNAL keeps number
  -- and text, by which the caller tells whether to ask again.
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    ROLLBACK;
    RESIGNAL;
  END;

  -- Postgrey's key is lc("network/sender/recipient"), the network being a /24
  -- or a /64. It lower-cases ASCII only. So does LOWER() for a character set
  -- that has no letter case beyond ASCII and takes any byte, as hebrew; on
  -- binary strings it does nothing.
  SET network = LEFT(ip, IF(LENGTH(ip) = 4, 3, 8));
  SET k = LEFT(UNHEX(SHA2(LOWER(CONVERT(
    CONCAT(HEX(network), '/', sender, '/', recipient) USING hebrew)), 256)), 16);

  START TRANSACTION;

  -- The lock makes concurrent questions about a known triplet follow each other.
  SELECT first_seen, last_seen INTO first_s, last_s
    FROM greylist WHERE triplet = k FOR UPDATE;

  IF first_s IS NULL THEN
    SET verdict = 'new', first_s = now_s;
  ELSEIF last_s - first_s < delay_s AND now_s - first_s > retry_window_s THEN
    SET verdict = 'new', first_s = now_s;
  ELSE
    SET first_s = LEAST(first_s, now_s);
  END IF;
  SET wait_s = GREATEST(delay_s - (now_s - first_s), 0);
  IF wait_s = 0 THEN
    SET verdict = 'pass';
  ELSEIF verdict IS NULL THEN
    SET verdict = 'early';
  END IF;

  -- Every question is a write, as with Postgrey. A row that does not exist
  -- cannot be locked, so that first questions at the same time all come here.
  -- REPLACE is a blind write in NDB: all succeed, and leave one row. A plain
  -- INSERT would fail with 1062 for all but one; INSERT ... ON DUPLICATE KEY
  -- UPDATE reads first, at the price of two more round trips.
  REPLACE INTO greylist (triplet, first_seen, last_seen) VALUES (k, first_s, now_s);

  COMMIT;

  SELECT verdict, wait_s;
END//

DELIMITER ;
