# Users who hurt: bodies made to be slow to read, lists and searches over ten thousand conversations, streams attached
# by the hundred, one conversation cancelled and repeated all the time.  Others are served meanwhile.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Select;
use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;
use Parley::Hurt;
use Parley::Turns ();

my $SECONDS = pick(1, 20);
my $t = faults_test(workers => 1, scripts => { long => text_reply('This ', 3000, 'takes ', 3000, 'long.') });
my @pids = $t->pids;
my $pg = $t->pg;
my $all = Parley::Hurt->measure($t);
my $quiet = honest($t, pick(30, 200));
my $m = Parley::Hurt->measure($t);
my $K = 1024;

subtest 'bodies' => sub {
	my $head = '{"message":"hello, what is this?","x":';
	my $fill = sub { my ($piece, $n) = @_; substr($head . '[' . $piece x int(65_000 / length $piece), 0, $n // 65_000) };
	my %body = (
		'brackets' => '[' x (64 * $K),
		'brackets inside' => $fill->('['),
		'objects without end' => $fill->('{"a":'),
		'empty objects' => $head . '[' . join(',', ('{}') x 21_000) . ']}',
		'empty lists' => $head . '[' . join(',', ('[]') x 21_000) . ']}',
		'numbers' => $head . '[' . join(',', (1) x 32_000) . ']}',
		'members' => '{"message":"hello, what is this?",' . join(',', map { "\"$_\":1" } 1 .. 6000) . '}',
		'the same member' => '{"message":"hello, what is this?",' . join(',', ('"a":1') x 10_000) . '}',
		'the message twice' => '{"message":"a","message":"b"}',
		'100,000 members' => '{' . join(',', map { "\"$_\":1" } 1 .. 100_000) . '}',
		'a long number' => '{"message":"hello, what is this?","x":' . '1' x 60_000 . '}',
		'escapes' => '{"message":"' . '\\u0041' x 10_000 . '"}',
		'half characters' => '{"message":"' . '\\ud800' x 10_000 . '"}',
		'invalid UTF-8' => '{"message":"' . "\xff" x 60_000 . '"}',
		'blanks' => ' ' x 60_000 . '{"message":" "}',
		'a long id' => '{"message":"hello, what is this?","conversation_id":"' . 'a' x 60_000 . '"}',
		'many approvals' => '{"conversation_id":"0c9f0000-0000-4000-8000-000000000001","approvals":{' .
		    join(',', map { sprintf '"0c9f0000-0000-4000-8000-%012x":true', $_ } 1 .. 1400) . '}}',
	);
	for my $name (sort keys %body) {
		my $since = time;
		my $r = $t->post('/api/chat', $body{$name}, user => 'bodies');
		like $r->{status}, qr/^(?:200|400|404|413|422)$/, sprintf '%s: %d after %.0f ms', $name, $r->{status}, 1000 * (time - $since);
		cmp_ok time - $since, '<', 5, '... soon';
	}
	# Many at once, while their turns run.
	$m->restart;
	my @open;
	for my $i (1 .. pick(60, 200)) {
		push @open, $t->begin('POST', '/api/chat', qq({"message":"script:long $i","y":[) . join(',', (1) x 4000) . ',"' . 'x' x 50_000 . '"]}',
		    user => 'heavy-' . $i % 5);
	}
	compare('heavy bodies', $quiet, honest($t, 20));
	$m->bounded('requests of 60 KB, ' . @open . ' at a time', 24 + @open);
	my %ends;
	$ends{$_->response->{status}}++ for @open;
	note 'they ended as ', join ', ', map { "$_: $ends{$_}" } sort keys %ends;
};

subtest 'addresses' => sub {
	my $long = 'a' x 7000;
	my %path = map { $_ => 1 } (
		"/api/conversations/$long", "/api/conversations/" . '%2e%2e%2f' x 500, "/api/conversations?cursor=$long",
		'/api/conversations?cursor=' . '%00' x 1000, '/api/conversations?cursor=-1,x', '/api/conversations?limit=' . '9' x 5000,
		'/api/conversations?cursor=99999999999999999999,0c9f0000-0000-4000-8000-000000000001',
		"/api/conversations?q=$long", '/api/conversations?q=' . '%25' x 2000, '/api/conversations?' . 'q=a&' x 1500,
		'/api/conversations/0c9f0000-0000-4000-8000-000000000001/turns/' . '9' x 3000,
		'/api/conversations/0c9f0000-0000-4000-8000-000000000001/turns/1?wait=' . '9' x 3000,
	);
	for my $path (sort keys %path) {
		my $r = $t->get($path, user => 'paths');
		like $r->{status}, qr/^(?:200|400|404|414|422)$/, substr($path, 0, 60) . ": $r->{status}";
	}
	my $r = $t->get('/api/conversations', user => 'paths', headers => { 'Last-Event-ID' => $long });
	is $r->{status}, 200, 'a long id of an event, where none is wanted';
	$r = $t->post('/api/chat', { message => 'hello' }, user => 'paths', headers => { 'Idempotency-Key' => $long });
	is $r->{status}, 422, 'a long key';
	$r = $t->get('/api/conversations', token => 'a.' . 'b' x 7000 . '.c');
	is $r->{status}, 401, 'a long token';
};

subtest 'ten thousand conversations' => sub {
	my $n = pick(2000, 10_000);
	$pg->do(qq{INSERT INTO parley.conversations (user_id, id, created_at, updated_at, title)
	    SELECT 'lister', gen_random_uuid(), now(), now(), repeat('aaaaaaaab', 22) || i FROM generate_series(1, $n) i});
	$pg->do('ANALYZE parley.conversations');
	my @q = map { Parley::Hurt::escaped($_) } '', 'a', 'b' . 'a' x 190, '%' x 190, '_' x 190, '\\' x 190, 'a%' x 95, "\x{130}" x 60, 'nowhere';
	my @took;
	for my $q (@q) {
		my $since = time;
		my $r = $t->get("/api/conversations?limit=100&q=$q", user => 'lister');
		push @took, 1000 * (time - $since);
		is $r->{status}, 200, sprintf '%s: %.0f ms', substr($q, 0, 30), $took[-1];
	}
	figure sprintf 'searching %d titles of 200 characters took %.0f ms at most', $n, (sort { $b <=> $a } @took)[0];
	my @attack = map { attack(sub {
		my ($over) = @_;
		my $until = time + $SECONDS;
		while (time < $until && !$over->()) {
			$t->get("/api/conversations?limit=100&q=$q[rand @q]", user => 'lister');
		}
	}) } 1 .. 8;
	compare("eight who search among $n conversations all the time", $quiet,
	    Parley::Hurt::honest_while($t, sub { scalar grep { $_->running } @attack }));
};

subtest 'streams attached by the hundred' => sub {
	my $n = pick(200, 500);
	my ($c, $id, $turn) = Parley::Turns::begun($t, 'follower', 'script:long for all');
	$m->restart;
	my @c = map { Parley::Turns::follow($t, 'follower', $id, $turn) } 1 .. $n;
	compare("$n who follow one turn", $quiet, honest($t, 30));
	my $done = grep { my @e = Parley::Turns::events($_); @e && $e[-1]{event} eq 'done' } @c;
	is $done, $n, 'all are told to the end';
	$m->bounded("$n who follow one turn", 64 + $n / 8);
	is $c->response->{status}, 200, 'the first as well';
	undef @c;
	my $attack = attack(sub {
		my ($over) = @_;
		my $until = time + $SECONDS;
		while (time < $until && !$over->()) {
			my @some = map { Parley::Turns::follow($t, 'follower', $id, $turn) } 1 .. 20;
			$_->close for @some;
		}
	});
	compare('streams attached and dropped', $quiet, Parley::Hurt::honest_while($t, sub { $attack->running }));
};

subtest 'one conversation, cancelled and repeated' => sub {
	my ($c, $id, $turn) = Parley::Turns::begun($t, 'restless', 'script:long again');
	$m->restart;
	my @attack = map { my $what = $_; attack(sub {
		my ($over) = @_;
		my $until = time + $SECONDS;
		while (time < $until && !$over->()) {
			$what ? Parley::Turns::cancel($t, 'restless', $id, $turn)
			    : Parley::Turns::begin_retry($t, 'restless', $id, $turn, stream => 1)->close;
		}
	}) } 0, 1, 0, 1;
	compare('cancel and retry', $quiet, Parley::Hurt::honest_while($t, sub { scalar grep { $_->running } @attack }));
	$m->bounded('cancel and retry', 32);
	# Its last run may be cancelled already, or end by itself.
	Parley::Turns::cancel($t, 'restless', $id, $turn);
	ok wait_for(sub { Parley::Turns::state_of($pg, $id, $turn) =~ /^(?:done|cancelled|failed)$/ }, 15), 'it comes to rest';
	my $r = $t->chat('restless', 'hello?', conversation_id => $id);
	is $r->{status}, 200, '... and goes on';
	$c->close;
};

is_deeply [Parley::Audit::complaints($pg)], [], 'the rows are whole';
$all->given_back('users', 48, pick(100, 300));
well($t, \@pids, 'users');
done_testing;
