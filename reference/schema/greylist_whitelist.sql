-- Greylist whitelists: clients and recipients that are never deferred.
-- greylist_check asks this function first:
--
--     greylist_whitelisted(client_name, client, recipient)
--
-- Input:  client_name  the peer's host name, '' if it has none
--         client       its address in 16 bytes: INET6_ATON('2001:db8::1'), and
--                      for IPv4 INET6_ATON('::ffff:192.0.2.1')
--         recipient    the envelope recipient
-- Result: 'client', 'recipient', or '' for what is in no list
-- Cost:   no round trip. The lists stand in the function, as those of Postgrey
--         stand in files on every MTA: a table of NDB would cost a read.
-- Source: Postgrey 1.37, read_clients_whitelists, read_recipients_whitelists.
--
-- What may stand in a list, in lower case:
--         names of clients     'example.org' is that host and all below it; how
--                              many labels a name has says in which line it goes
--         networks of clients  as the first and the last address of a range
--         users                'postmaster@' in every domain, and with a +extension
--         addresses            'abuse@example.edu', and with a +extension
--         domains              'example.edu' and all below it, as for clients
--         Patterns: REGEXP_LIKE(CONVERT(name USING latin1), '...', 'c')
--
-- By hand: edit the lists, then mysql DATABASE < greylist_whitelist.sql, on EVERY
-- SQL node. greylist.sql tells what that means for rights and for questions that
-- are asked meanwhile.

DROP FUNCTION IF EXISTS greylist_whitelisted;

DELIMITER //

CREATE FUNCTION greylist_whitelisted(client_name VARBINARY(255), client BINARY(16), recipient VARBINARY(512))
  RETURNS VARCHAR(9) CHARACTER SET ascii
  DETERMINISTIC NO SQL
  SQL SECURITY INVOKER
BEGIN
  DECLARE name, local_part, tail VARBINARY(512);
  SET name = LOWER(CONVERT(recipient USING hebrew));
  IF LOCATE('@', name) > 0 THEN
    -- Without the extension; 'user+' has none, and is another user.
    SET tail = SUBSTRING_INDEX(name, '@', 1), local_part = SUBSTRING_INDEX(tail, '+', 1);
    IF LENGTH(tail) <> LENGTH(local_part) + 1 THEN
      IF local_part IN ('postmaster', 'abuse') THEN
        RETURN 'recipient';
      END IF;
    END IF;
  END IF;
  RETURN '';
END//

DELIMITER ;
