<?php

/**
 * What Roundcube needs to take over SquirrelMail's preferences and address books:
 * lines for /etc/roundcube/config.inc.php (Debian's roundcube), after Debian's own.
 *
 * Debian's file has read the database settings of debian-db-roundcube.php by then;
 * the two DSNs below are for an installation that does not use them.
 */

// Roundcube's own tables. They cannot live in NDB as Roundcube's schema has them:
// their foreign keys have ON UPDATE CASCADE to a primary key (NDB error 21000) and
// ON DELETE CASCADE from tables with TEXT columns (21034). So they are InnoDB
// tables of one server, which is no SQL node of the cluster's and does not fail
// over with it. timeout is that of the connection, in seconds; PHP has 30.
$config['db_dsnw'] = 'mysql://roundcube:CHANGE-ME@192.0.2.41/roundcube?timeout=2';
$config['db_dsnr'] = ''; // a replica to read from; '' for none

// How long a database server may take to answer, in seconds. PHP waits a day
// otherwise.
ini_set('mysqlnd.net_read_timeout', '10');

// Its configuration is plugins/squirrelmail_usercopy/config.inc.php.
$config['plugins'] = array_merge($config['plugins'] ?? [], ['squirrelmail_usercopy']);
