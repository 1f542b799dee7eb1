-- Heartbeat: a table for proving that a SQL node takes writes. Each node has a
-- row of its own, so that nobody waits for a lock of somebody else:
--
--     REPLACE INTO heartbeat (node, beat) VALUES ('<node>', <beat>)
--     SELECT beat FROM heartbeat WHERE node = '<node>'
--
-- Input:  the node's name, and a number that only grows.
-- Result: of the SELECT one row, with that number or a later one.
--
-- By hand: mysql DATABASE < heartbeat.sql, on one SQL node: NDB shows the table
-- to the others. For another storage engine replace ENGINE=NDBCLUSTER.

CREATE TABLE IF NOT EXISTS heartbeat (
  node VARBINARY(64) NOT NULL,
  beat BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (node) USING HASH
) ENGINE=NDBCLUSTER;
