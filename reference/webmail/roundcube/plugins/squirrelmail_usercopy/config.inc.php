<?php

/**
 * Roundcube's own plugin squirrelmail_usercopy on the tables of
 * reference/schema/preferences.sql: at a user's first login it copies identities,
 * signatures and the address book. On Debian this is
 * /etc/roundcube/plugins/squirrelmail_usercopy/config.inc.php. Put sql_nodes.php
 * beside it.
 *
 * Roundcube reads this file at a first login only, so that no other page waits for
 * the look at the SQL nodes. It holds a password: readable by the web server alone.
 */

require_once __DIR__ . '/sql_nodes.php';

$mailbench_nodes    = ['192.0.2.31', '192.0.2.32']; // the nearest first
$mailbench_user     = 'webmail';
$mailbench_password = 'CHANGE-ME'; // letters and digits: it stands in a URL
$mailbench_database = 'mail';

$mailbench_node = mailbench_sql_node($mailbench_nodes, $mailbench_user, $mailbench_password, $mailbench_database);

$config['squirrelmail_driver'] = 'sql';

// charset=binary: the connection carries bytes, as they were stored.
$config['squirrelmail_dsn'] = "mysql://$mailbench_user:$mailbench_password@$mailbench_node/$mailbench_database?charset=binary&timeout=2";

// The character set that SquirrelMail's users wrote in. '' is UTF-8. For ISO 8859-1
// write 'binary': this goes to MySQL in SET NAMES, which must go on handing out
// bytes, and to PHP's mbstring, which reads "binary" as one letter a byte.
$config['squirrelmail_db_charset'] = '';

$config['squirrelmail_address_table']   = 'address';
$config['squirrelmail_userprefs_table'] = 'userprefs';

// As in the plugin's config.inc.php.dist.
$config['squirrelmail_identities_level'] = null;
$config['squirrelmail_set_alias']        = true;
