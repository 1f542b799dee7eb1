<?php

/**
 * Chooses the SQL node that a webmail page asks. Neither SquirrelMail nor
 * Roundcube can be given a second database server, but both read their
 * configuration anew for every page: so the configuration looks which one
 * answers.
 *
 * A node is taken if it lets us in and reads from the data nodes, all within
 * $timeout seconds for each step. One that refuses, is silent, or has lost its
 * cluster is passed over, with a line in PHP's error log. Where none answers,
 * the first one is returned, and the webmail shows its own error. Needs PHP 7.2.
 *
 * @param string[] $nodes    host or host:port of each SQL node, the nearest first; no IPv6
 * @param string   $user     account of the webmail, with SELECT on userprefs
 * @param string   $password its password
 * @param string   $database where the table userprefs is
 * @param int      $timeout  seconds to wait for each step, 1 or more
 *
 * @return string one of $nodes
 */
function mailbench_sql_node(array $nodes, string $user, string $password, string $database, int $timeout = 2): string
{
    // PDO's own time-out ends when the connection is open; how long an answer may
    // take is mysqlnd's setting, a day unless it is set.
    $read_timeout = ini_set('mysqlnd.net_read_timeout', (string) $timeout);
    try {
        foreach ($nodes as $node) {
            list($host, $port) = explode(':', $node) + [1 => '3306'];
            try {
                $db = new PDO("mysql:host=$host;port=$port;dbname=$database", $user, $password, [
                    PDO::ATTR_TIMEOUT => $timeout,
                    PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
                ]);
                // A read by primary key: one round trip to one data node.
                $db->query("SELECT 1 FROM userprefs WHERE user = '' AND prefkey = ''");
                return $node;
            } catch (PDOException $e) {
                error_log("SQL node $node is passed over: " . $e->getMessage());
            }
        }
        return $nodes[0];
    } finally {
        if ($read_timeout !== false) {
            ini_set('mysqlnd.net_read_timeout', $read_timeout);
        }
    }
}
