-- Greylist: whether a recipient is deferred, by the algorithm of Postgrey: the
-- triplet of client network, sender and recipient has to wait once, clients
-- that keep coming back are whitelisted by themselves.
--
-- The MTA asks, once for every RCPT command that it would accept:
--
--     CALL greylist_check('<client>', '<client_name>', '<sender>', '<recipient>', <now>)
--
-- Input:  client       the peer's IP address as text; error 1411 for other text.
--                      IPv6 in any spelling of at most 39 bytes, which leaves out
--                      only padded ones that end in an IPv4 address;
--                      ::ffff:192.0.2.1 is 192.0.2.1
--         client_name  its host name as the MTA has verified it, '' if it has none
--         sender       the envelope sender, '' for the null sender
--         recipient    the envelope recipient
--         now          the time in seconds since 1970, 0 to 4294967295 (error
--                      1264 otherwise); the server's own clock is not used, so
--                      that every MTA and every replay has its own
--         Any byte may stand in a name. Names have at most 512 bytes, as Postgrey
--         reads them, client_name 255; longer ones are refused (error 1406), never
--         cut, whatever sql_mode the procedure was created with.
-- Result: one result set of one row, sent when the decision is committed:
--         verdict    'new'        defer: seen for the first time, or again after
--                                 the retry window
--                    'early'      defer: seen, but the delay has not passed
--                    'pass'       accept: the triplet has waited
--                    'auto'       accept: the client is whitelisted by itself
--                    'client'     accept: greylist_whitelisted lists the client
--                    'recipient'  accept: greylist_whitelisted lists the recipient
--         wait_s     how many seconds until the triplet would pass, 0 if accepted
--         delayed_s  for 'pass', how many seconds the triplet has waited, if this
--                    is the first time that it passes (Postgrey's X-Greylist
--                    header says so); else 0
--         A failure is an error and no row. It reaches the caller as the engine
--         raised it (1297, 1205, ...), and nothing has been stored; but after
--         an error in COMMIT itself the decision may stand.
--         Never CALL it within a transaction: that would be committed first.
--         There is never a second result set: Exim keeps the first one only,
--         fails every later lookup with "Commands out of sync", and does not
--         see an error that comes after a row.
-- Cost:   round trips to the data nodes: none for 'client' and 'recipient', one
--         for 'auto', two for the others and for the write that 'auto' makes
--         once an hour.
-- Source: Postgrey 1.37, smtpd_access_policy(), or 1.31. docs/greylist.md lists
--         where this differs.
--
-- A night's work, from one place at a time:
--
--     CALL greylist_expire(<now>, <batch>)
--
-- Input:  now    the time in seconds since 1970
--         batch  how many rows a transaction looks at, 1 to 10000; 500 is well
--                below MaxNoOfConcurrentOperations of a small data node
-- Result: one row: deleted, how many rows were forgotten. It goes through the
--         whole table, one transaction a batch. When it fails, the batches before
--         stand; call it again.
--
-- By hand: mysql DATABASE < greylist.sql, on EVERY SQL node: NDB shows the
-- table to all of them, but keeps no procedures. Then greylist_whitelist.sql.
-- Replacing a procedure takes rights on it away that were granted for it alone
-- (automatic_sp_privileges): GRANT EXECUTE ON DATABASE.* instead. In the moment
-- between DROP and CREATE a question fails with error 1305.
-- For another storage engine replace ENGINE=NDBCLUSTER.

CREATE TABLE IF NOT EXISTS greylist (
  -- Triplets and clients in one table, so that one round trip reads both. A
  -- client's key is its address as IPv6 (INET6_NTOA shows it). A triplet's is the
  -- byte FF, with which no address of a host begins (RFC 4291, section 2.4), and
  -- the first 15 bytes of a SHA-256: three columns of 255 bytes would not leave
  -- room in memory for the millions of triplets of a day, and 120 bits do not
  -- collide by chance. NDB writes rows blindly, without reading them first, only
  -- where a table has no secondary unique key and no BLOB.
  k          BINARY(16)   NOT NULL,
  first_seen INT UNSIGNED NOT NULL, -- seconds since 1970
  last_seen  INT UNSIGNED NOT NULL, -- for a client, when it last earned a credit
  credits    INT UNSIGNED NOT NULL, -- of a client; 0 for a triplet
  -- The hash finds a row, the ordered index lets greylist_expire go through the
  -- table in pieces. No column that changes is indexed.
  PRIMARY KEY (k)
) ENGINE=NDBCLUSTER;

DROP PROCEDURE IF EXISTS greylist_check;

DELIMITER //

CREATE PROCEDURE greylist_check(
  -- One byte longer than what is allowed: what a lax sql_mode cuts is still too
  -- long, and refused below.
  IN client      VARBINARY(46),
  IN client_name VARBINARY(256),
  IN sender      VARBINARY(513),
  IN recipient   VARBINARY(513),
  IN now_s       BIGINT)
  MODIFIES SQL DATA
  SQL SECURITY INVOKER
BEGIN
  -- The policy, with Postgrey's defaults. Keep it alike on all SQL nodes, and in
  -- greylist_expire.
  DECLARE profile        INT DEFAULT 137;       -- 137: Postgrey 1.37, 131: 1.31
  DECLARE delay_s        BIGINT DEFAULT 300;    -- --delay
  DECLARE retry_window_s BIGINT DEFAULT 172800; -- --retry-window
  DECLARE auto_credits   INT DEFAULT 5;         -- --auto-whitelist-clients, 0 for none
  DECLARE ipv4_bytes     INT DEFAULT 3;         -- --ipv4cidr / 8; 4 for --lookup-by-host
  DECLARE ipv6_bytes     INT DEFAULT 8;         -- --ipv6cidr / 8; 16 for --lookup-by-host

  DECLARE ip, network    VARBINARY(16);
  DECLARE at_sign        INT;
  DECLARE local_part     VARBINARY(513);
  DECLARE a, b           VARBINARY(513);
  DECLARE client_k       BINARY(16);
  DECLARE triplet_k      BINARY(16);
  DECLARE client_first_s, client_last_s, credits_n BIGINT;
  DECLARE first_s, last_s, wait_s, delayed_s       BIGINT;
  DECLARE verdict        VARCHAR(9) CHARACTER SET ascii;
  DECLARE batching       BOOLEAN DEFAULT @@SESSION.transaction_allow_batching; -- the caller's

  -- NDB aborts the whole transaction upon any error; the rollback is for other
  -- engines, and ends the transaction on the SQL node. RESIGNAL keeps number
  -- and text, by which the caller tells whether to ask again.
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    ROLLBACK;
    SET SESSION transaction_allow_batching = batching;
    RESIGNAL;
  END;

  IF LENGTH(client_name) > 255 OR LENGTH(sender) > 512 OR LENGTH(recipient) > 512 THEN
    SIGNAL SQLSTATE '22001' SET MYSQL_ERRNO = 1406, MESSAGE_TEXT =
      'greylist_check: client_name may have 255 bytes, sender and recipient 512';
  END IF;
  IF client_name IS NULL OR sender IS NULL OR recipient IS NULL THEN
    SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1048, MESSAGE_TEXT =
      'greylist_check: client_name, sender and recipient may be empty, but not NULL';
  END IF;
  IF now_s IS NULL OR now_s < 0 OR now_s > 4294967295 THEN
    SIGNAL SQLSTATE '22003' SET MYSQL_ERRNO = 1264, MESSAGE_TEXT =
      'greylist_check: now must be 0 to 4294967295 seconds since 1970';
  END IF;
  SET ip = INET6_ATON(client); -- in a strict sql_mode an error 1411 itself
  IF ip IS NULL OR LOCATE(x'00', client) > 0 THEN -- INET6_ATON does not look beyond a NUL
    SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1411, MESSAGE_TEXT =
      'greylist_check: client is no IP address';
  END IF;
  -- An IPv4 client of an IPv6 socket (RFC 4291, section 2.5.5.2).
  IF LENGTH(ip) = 16 AND LEFT(ip, 12) = x'00000000000000000000FFFF' THEN
    SET ip = RIGHT(ip, 4);
  END IF;
  SET client_k = IF(LENGTH(ip) = 4, CONCAT(x'00000000000000000000FFFF', ip), ip);

  SET verdict = greylist_whitelisted(client_name, client_k, recipient), wait_s = 0, delayed_s = 0;
  IF verdict = '' THEN
    -- The network of the client.
    SET network = LEFT(ip, IF(LENGTH(ip) = 4, ipv4_bytes, ipv6_bytes));
    IF profile = 131 THEN
      -- 1.31 takes the address itself where the name holds its last two numbers,
      -- as those of dial-up pools do, and all of an IPv6 address.
      SET a = INET6_NTOA(ip);
      IF LENGTH(ip) = 16
         OR LOCATE(SUBSTRING_INDEX(SUBSTRING_INDEX(a, '.', -2), '.', 1), client_name) > 0
            AND LOCATE(SUBSTRING_INDEX(a, '.', -1), client_name) > 0 THEN
        SET network = ip;
      END IF;
    END IF;

    -- The sender without what differs from mail to mail (do_sender_substitutions).
    SET at_sign = LOCATE('@', sender);
    IF at_sign > 0 THEN
      SET local_part = LEFT(sender, at_sign - 1);
      IF profile >= 137 AND local_part LIKE 'prvs=%' THEN
        -- BATV: prvs=tag=user, or prvs=user=tag. Perl's split drops empty fields
        -- at the end.
        SET a = TRIM(TRAILING '=' FROM local_part);
        IF LENGTH(a) - LENGTH(REPLACE(a, '=', '')) = 2 THEN
          SET local_part = SUBSTRING_INDEX(a, '=', -1), a = SUBSTRING_INDEX(SUBSTRING_INDEX(a, '=', 2), '=', -1);
          IF REGEXP_LIKE(CONVERT(local_part USING latin1), '^[0-9a-z]{10}', 'c')
             AND NOT REGEXP_LIKE(CONVERT(a USING latin1), '^[0-9a-z]{10}', 'c') THEN
            SET local_part = a;
          END IF;
        END IF;
      END IF;
      SET local_part = SUBSTRING_INDEX(local_part, '+', 1);
      -- Perl's s/\b\d+\b/#/g on bytes, where only ASCII makes words. A regular
      -- expression costs a fifth of a read, so most names are kept from it.
      IF LOCATE('0', local_part) OR LOCATE('1', local_part) OR LOCATE('2', local_part) OR LOCATE('3', local_part)
         OR LOCATE('4', local_part) OR LOCATE('5', local_part) OR LOCATE('6', local_part) OR LOCATE('7', local_part)
         OR LOCATE('8', local_part) OR LOCATE('9', local_part) THEN
        SET local_part = REGEXP_REPLACE(CONVERT(local_part USING latin1), '(?<![0-9A-Za-z_])[0-9]+(?![0-9A-Za-z_])', '#');
      END IF;
      SET sender = CONCAT(local_part, SUBSTRING(sender, at_sign));
    END IF;

    -- Postgrey's key is lc("network/sender/recipient"). It lower-cases ASCII
    -- only. So does LOWER() for a character set that has no letter case beyond
    -- ASCII and takes any byte, as hebrew; on binary strings it does nothing.
    SET triplet_k = CONCAT(x'FF', LEFT(UNHEX(SHA2(LOWER(CONVERT(
      CONCAT(HEX(network), '/', sender, '/', recipient) USING hebrew)), 256)), 15));

    SELECT MAX(IF(k = client_k, first_seen, NULL)), MAX(IF(k = client_k, last_seen, NULL)),
           MAX(IF(k = client_k, credits, NULL)),
           MAX(IF(k = triplet_k, first_seen, NULL)), MAX(IF(k = triplet_k, last_seen, NULL))
      INTO client_first_s, client_last_s, credits_n, first_s, last_s
      FROM greylist WHERE k IN (client_k, triplet_k);

    IF auto_credits > 0 AND credits_n >= auto_credits THEN
      SET verdict = 'auto';
      IF now_s >= client_last_s + 3600 OR client_last_s > now_s THEN
        SET SESSION transaction_allow_batching = ON;
        START TRANSACTION;
        REPLACE INTO greylist (k, first_seen, last_seen, credits) VALUES (client_k, client_first_s, now_s, credits_n + 1);
      END IF;
    ELSE
      -- delayed_s is the wait to announce, or NULL for a triplet that has passed before.
      IF first_s IS NULL THEN
        SET first_s = now_s;
      ELSEIF last_s - first_s >= delay_s THEN
        SET delayed_s = NULL;
      ELSEIF now_s - first_s > retry_window_s THEN
        SET first_s = now_s;
      END IF;
      IF first_s > now_s AND profile >= 137 THEN -- the clock of another MTA, or one set back
        SET first_s = now_s;
      END IF;
      SET wait_s = GREATEST(delay_s - (now_s - first_s), 0);

      IF wait_s > 0 THEN
        SET verdict = IF(first_s = now_s, 'new', 'early'), delayed_s = 0;
      ELSE
        SET verdict = 'pass', delayed_s = delayed_s + now_s - first_s;
      END IF;

      -- Every question is a write, as with Postgrey. With batching it waits for
      -- COMMIT and goes there with it, in one round trip instead of two. No lock
      -- is held from read to write: rows that first questions at the same time
      -- write differ at most in their times, and REPLACE writes blindly, where a
      -- plain INSERT would fail with 1062 for all but one (docs/decisions/0004).
      SET SESSION transaction_allow_batching = ON;
      START TRANSACTION;
      IF wait_s = 0 AND delayed_s IS NOT NULL AND auto_credits > 0
         AND (client_last_s IS NULL OR now_s >= client_last_s + 3600) THEN
        REPLACE INTO greylist (k, first_seen, last_seen, credits)
          VALUES (triplet_k, first_s, now_s, 0), (client_k, IFNULL(client_first_s, now_s), now_s, IFNULL(credits_n, 0) + 1);
      ELSE
        REPLACE INTO greylist (k, first_seen, last_seen, credits) VALUES (triplet_k, first_s, now_s, 0);
      END IF;
      SET delayed_s = IFNULL(delayed_s, 0);
    END IF;

    COMMIT; -- also ends what a session without autocommit has begun
    SET SESSION transaction_allow_batching = batching;
  END IF;

  SELECT verdict, wait_s, delayed_s;
END//

DELIMITER ;

DROP PROCEDURE IF EXISTS greylist_expire;

DELIMITER //

CREATE PROCEDURE greylist_expire(IN now_s BIGINT, IN batch INT)
  MODIFIES SQL DATA
  SQL SECURITY INVOKER
BEGIN
  -- The policy, as in greylist_check.
  DECLARE delay_s        BIGINT DEFAULT 300;     -- --delay
  DECLARE retry_window_s BIGINT DEFAULT 172800;  -- --retry-window
  DECLARE max_age_s      BIGINT DEFAULT 3024000; -- --max-age, 35 days

  DECLARE low, high VARBINARY(16) DEFAULT '';
  DECLARE deleted   BIGINT DEFAULT 0;
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    ROLLBACK;
    RESIGNAL;
  END;

  IF now_s IS NULL OR now_s < 0 OR now_s > 4294967295 OR batch IS NULL OR batch < 1 OR batch > 10000 THEN
    SIGNAL SQLSTATE '22003' SET MYSQL_ERRNO = 1264, MESSAGE_TEXT =
      'greylist_expire: now must be 0 to 4294967295 seconds since 1970, batch 1 to 10000 rows';
  END IF;

  WHILE high IS NOT NULL DO
    -- The key that ends the batch: its transaction reads and locks no more than
    -- these rows, however large the table is.
    SET high = (SELECT k FROM greylist WHERE k > low ORDER BY k LIMIT batch, 1);
    START TRANSACTION;
    -- What nobody used for long, and triplets that did not pass within the retry
    -- window, counted from when they were last seen. The data nodes test the
    -- first condition by themselves, so that only rows that fulfil it are locked.
    DELETE FROM greylist
      WHERE last_seen < now_s - LEAST(max_age_s, retry_window_s)
        AND k > low AND k <= IFNULL(high, x'FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF')
        AND (last_seen < now_s - max_age_s
             OR credits = 0 AND last_seen < first_seen + delay_s AND last_seen < now_s - retry_window_s);
    SET deleted = deleted + ROW_COUNT();
    COMMIT;
    SET low = high;
  END WHILE;

  SELECT deleted;
END//

DELIMITER ;
