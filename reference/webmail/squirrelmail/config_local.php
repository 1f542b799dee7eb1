<?php

/**
 * SquirrelMail on the tables of reference/schema/preferences.sql: config/config_local.php,
 * which SquirrelMail 1.4 and 1.5 read after config/config.php. It must be 1.4.23 or
 * 1.5.2 at least: those before know no PDO, whose form of a DSN this is. Put
 * sql_nodes.php beside it.
 *
 * Both settings that hold a password make this file a secret: readable by the web
 * server alone.
 */

require_once __DIR__ . '/sql_nodes.php';

$mailbench_nodes    = ['192.0.2.31', '192.0.2.32']; // this machine's own SQL node first
$mailbench_user     = 'webmail';
$mailbench_password = 'CHANGE-ME'; // letters and digits: it stands in a URL
$mailbench_database = 'mail';

// How long a node that was chosen may take to answer, in seconds. PHP waits a day
// otherwise.
ini_set('mysqlnd.net_read_timeout', '10');

$mailbench_node = mailbench_sql_node($mailbench_nodes, $mailbench_user, $mailbench_password, $mailbench_database);

// SquirrelMail hands on what follows the database's name to PDO as it stands: this
// is how it is told that the connection carries bytes. Without it no address with
// an 8-bit letter can be stored.
$prefs_dsn    = "mysql://$mailbench_user:$mailbench_password@$mailbench_node/$mailbench_database;charset=binary";
$addrbook_dsn = $prefs_dsn;

$prefs_table      = 'userprefs';
$prefs_user_field = 'user';
$prefs_key_field  = 'prefkey';
$prefs_val_field  = 'prefval';
$addrbook_table   = 'address';

// The sizes of the table in bytes. SquirrelMail 1.5 checks them; 1.4 has no such
// setting, and leaves it to the database to refuse (README.md says what a user sees).
$prefs_user_size = 128;
$prefs_key_size  = 64;
$prefs_val_size  = 29000; // SquirrelMail's own default is 65536
