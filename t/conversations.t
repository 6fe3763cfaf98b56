# Conversations and turns as clients read them.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use Encode ();
use JSON::XS ();
use MIME::Base64 ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Process;
use Parley::Test;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $model = Parley::Model->new(scripts => {
	wait => text_reply('Al', 1500, 'most.'),
	long => text_reply('It ', map({ (500, "goes on $_ ") } 1 .. 20)),
	brief => text_reply(700, 'Gone.'),	# ends before the pulse has looked
	dawdle => join("---\n", call_reply(dawdle => {}), text_reply(2000, 'Done.')),
	broken => "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"no\"}}\n",
	tools => join("---\n", call_reply(add_task => { title => 'One' }, list_tasks => {}, no_such_tool => {}), text_reply('Done.')),
});
my $t = Parley::Test->new(model => $model, conf => { 'model.retries' => 0 });
my $pg = $t->pg;
my $nobody = '00000000-0000-4000-8000-000000000000';

# A new conversation of a user; its id.
sub talk {
	my ($user, @messages) = @_;
	my $id;
	for (@messages) {
		$id = $t->chat($user, $_, defined $id ? (conversation_id => $id) : ())->{json}{conversation_id};
	}
	return $id;
}

sub list { my ($user, $query) = @_; return $t->get('/api/conversations' . ($query // ''), user => $user) }
sub ids { map { $_->{id} } @{$_[0]{json}{conversations}} }
sub titles { map { $_->{title} } @{$_[0]{json}{conversations}} }
sub running { Parley::Process::wait_for { $pg->one(q{SELECT count(*) FROM parley.turns WHERE state = 'running'}) } 5 }
sub idle { Parley::Process::wait_for { !$pg->one(q{SELECT count(*) FROM parley.turns WHERE state = 'running'}) } 15 }

subtest 'the list' => sub {
	is_deeply list('nobody')->{json}, { conversations => [], next_cursor => undef }, 'none';
	my @id = map { talk('lisa', "Talk $_") } 1 .. 7;
	my $r = list('lisa');
	is $r->{status}, 200, 'it is answered';
	conversation_ok($_, "$_->{title}") for @{$r->{json}{conversations}};
	is_deeply [ids($r)], [reverse @id], 'newest first';
	is $r->{json}{next_cursor}, undef, 'no further page';
	is_deeply [@{$r->{json}{conversations}[0]}{qw(title turns state live_turn queued)}], ['Talk 7', 1, 'idle', undef, 0], 'one';

	talk_on($id[2]);
	is_deeply [ids(list('lisa'))], [@id[2, 6, 5, 4, 3, 1, 0]], 'activity brings one to the top';
	$t->patch("/api/conversations/$id[0]", { title => 'Other' }, user => 'lisa');
	is ((ids(list('lisa')))[6], $id[0], 'a new title does not');

	# Page by page, while others come in.
	my (@seen, $cursor);
	for my $page (1 .. 4) {
		$r = list('lisa', '?limit=2' . (defined $cursor ? "&cursor=$cursor" : ''));
		push @seen, ids($r);
		$cursor = $r->{json}{next_cursor};
		is defined $cursor, $page < 4, "page $page: " . (defined $cursor ? 'there is another' : 'the last');
		talk('lisa', "Meanwhile $page");
	}
	is_deeply \@seen, [@id[2, 6, 5, 4, 3, 1, 0]], 'no gap, none twice';
	is scalar(ids(list('lisa', '?limit=100'))), 11, 'limit=100';
	is scalar(ids(list('lisa', '?limit=1'))), 1, 'limit=1';
	is scalar(ids(list('lisa', '?limit=11'))), 11, 'as many as there are';
	is list('lisa', '?limit=11')->{json}{next_cursor}, undef, '... and no further page';
	error_is(list('lisa', "?limit=$_"), 422, 'validation_error', "limit=$_", field => 'limit')
	    for 0, 101, -1, 'x', '', '1.5', '1e1', '99999999999999999999', '%201', '1%20';
	is list('lisa', '?unknown=1&limit=2')->{status}, 200, 'unknown parameters are left alone';
};

sub talk_on { $t->chat('lisa', 'Once more', conversation_id => $_[0]) }

subtest 'cursors' => sub {
	my $b64 = sub { MIME::Base64::encode_base64url($_[0]) };
	my $page = list('lisa', '?limit=2')->{json}{next_cursor};
	like $page, qr/^[A-Za-z0-9_-]+$/, 'needs no encoding';
	my $id = talk('lisa', 'Hello', 'Hello again');
	my $older = $t->get("/api/conversations/$id?limit=1", user => 'lisa')->{json}{next_cursor};
	my @bad = ('x', '', '%', '%00', '!!!!', 'A' x 200, 'A' x 20000, $b64->('1'), $b64->("1,$nobody,1"), $b64->("1,\0$nobody"),
	    $b64->('99999999999999999999,' . $nobody), $b64->("-1,$nobody"), $b64->("1,x"), $b64->("1 OR 1=1,$nobody"));
	for my $cursor (@bad) {
		my $name = length $cursor > 60 ? substr($cursor, 0, 20) . '…' : $cursor;
		my $r = list('lisa', "?cursor=$cursor");
		length $cursor > 8000 ? is $r->{status}, 414, 'far too long' :
		    error_is($r, 422, 'validation_error', "list: $name", field => 'cursor');
		next if length $cursor > 8000;
		error_is($t->get("/api/conversations/$id?cursor=$cursor", user => 'lisa'), 422, 'validation_error', "read: $name",
		    field => 'cursor');
	}
	error_is(list('lisa', "?cursor=$older"), 422, 'validation_error', 'one of messages', field => 'cursor');
	error_is($t->get("/api/conversations/$id?cursor=$page", user => 'lisa'), 422, 'validation_error', 'one of conversations',
	    field => 'cursor');
	is list('mallory', "?cursor=$page")->{status}, 200, 'a cursor of another user is a place like any other';
	is_deeply [ids(list('mallory', "?cursor=$page"))], [], '... and shows nothing of theirs';
};

subtest 'the title filter' => sub {
	my @title = ('Shopping list', 'shop closing', 'Straße', '100% sure', 'a_b', 'axb', 'back\slash', "Tom's", 'Ünï', '日本語');
	talk('fred', $_) for @title;
	my $q = sub {
		(my $enc = Encode::encode_utf8($_[0])) =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ge;
		return [sort(titles(list('fred', "?q=$enc")))];
	};
	is_deeply $q->('SHOP'), ['Shopping list', 'shop closing'], 'any case';
	is_deeply $q->('ünÏ'), ['Ünï'], '... outside ASCII as well';
	is_deeply $q->('%'), ['100% sure'], '% is a character';
	is_deeply $q->('_'), ['a_b'], '_ is one';
	is_deeply $q->('\\'), ['back\slash'], '\\ is one';
	is_deeply $q->("'"), ["Tom's"], "' is one";
	is_deeply $q->('本'), ['日本語'], 'no spaces needed';
	is_deeply $q->('nothing like it'), [], 'none';
	is scalar @{$q->('')}, scalar @title, 'an empty one filters nothing';
	is_deeply [titles(list('fred', '?q=shop+closing'))], ['shop closing'], '+ is a space';
	error_is(list('fred', "?q=$_"), 422, 'validation_error', "q=$_", field => 'q') for '%ff', '%', '%zz', '%00', 'a%00b';
	my $r = list('fred', '?q=shop&limit=1');
	is_deeply [titles($r), titles(list('fred', "?q=shop&limit=1&cursor=$r->{json}{next_cursor}"))],
	    ['shop closing', 'Shopping list'], 'with pages';
	is_deeply [titles(list('lisa', '?q=Shop'))], [], 'only one\'s own';
};

subtest 'reading' => sub {
	my @body = ($t->chat('rita', 'Hello')->{json});
	my $id = $body[0]{conversation_id};
	push @body, map { $t->chat('rita', $_, conversation_id => $id)->{json} } 'add task: Buy milk', 'script:tools', 'My name is Rita';
	$t->chat('rita', 'script:broken', conversation_id => $id);
	push @body, $t->chat('rita', 'What is my name?', conversation_id => $id)->{json};

	my $r = $t->get("/api/conversations/$id", user => 'rita');
	is $r->{status}, 200, 'it is answered';
	my $b = $r->{json};
	is_deeply [sort keys %$b], [qw(conversation messages next_cursor)], 'what is in it';
	conversation_ok($b->{conversation}, 'the conversation');
	is_deeply [@{$b->{conversation}}{qw(id title turns state)}], [$id, 'Hello', 6, 'idle'], '... its members';
	is $b->{next_cursor}, undef, 'one page';
	message_ok($b->{messages}[$_], "message $_") for 0 .. $#{$b->{messages}};
	my @failed = grep { $_->{turn} == 5 } @{$b->{messages}};
	is_deeply [map { @$_{qw(role content turn_state error_code)} } @failed],
	    ['user', 'script:broken', 'failed', 'model_error'], 'a turn that failed has its question';
	is_deeply [grep { $_->{turn} != 5 } @{$b->{messages}}], [map { @{$_->{messages}} } @body],
	    'the same messages as in the answers, in their order, with their calls';

	# Backwards in pages of any size: all of it, each once.
	for my $limit (1, 2, 3, 5, 14, 100) {
		my (@all, $cursor, $pages);
		do {
			my $p = $t->get("/api/conversations/$id?limit=$limit" . (defined $cursor ? "&cursor=$cursor" : ''), user => 'rita')->{json};
			unshift @all, @{$p->{messages}};
			$cursor = $p->{next_cursor};
		} while (defined $cursor && ++$pages < 50);
		is_deeply \@all, $b->{messages}, "in pages of $limit";
	}
	error_is($t->get("/api/conversations/$id?limit=$_", user => 'rita'), 422, 'validation_error', "limit=$_", field => 'limit')
	    for 0, 101, 'x';
	is $t->get('/api/conversations/' . uc $id, user => 'rita')->{json}{conversation}{id}, $id, 'upper case is the same id';
	error_is($t->get("/api/conversations/$_", user => 'rita'), 404, 'conversation_not_found', "no conversation: $_")
	    for $nobody, 'x', substr($id, 0, 35), "${id}0", $id =~ s/-//gr, "%7B$id%7D", '%2e%2e';
	error_is($t->get("/api/conversations/$id", user => 'mallory'), 404, 'conversation_not_found', 'someone else\'s');
};

subtest 'renaming' => sub {
	my $id = talk('rita', 'Old name');
	my $rename = sub { $t->patch("/api/conversations/$id", { title => $_[0] }, user => 'rita') };
	my $r = $rename->("  New   näme 😀\n");
	is $r->{status}, 200, 'it is answered';
	conversation_ok($r->{json}, 'with the conversation');
	is $r->{json}{title}, 'New   näme 😀', 'trimmed';
	is_deeply $t->get("/api/conversations/$id", user => 'rita')->{json}{conversation}, $r->{json}, 'and so it is read';
	is $rename->('😀' x 200)->{json}{title}, '😀' x 200, '200 characters';
	error_is($rename->($_->[1]), 422, 'validation_error', $_->[0], field => 'title') for ['201 characters', 'x' x 201],
	    ['empty', ''], ['blank', " \n\x{3000}"], ['null', undef], ['a number', 1], ['a list', ['x']];
	error_is($t->patch("/api/conversations/$id", {}, user => 'rita'), 422, 'validation_error', 'none', field => 'title');
	error_is($t->patch("/api/conversations/$_", { title => 'x' }, user => 'rita'), 404, 'conversation_not_found', $_)
	    for $nobody, 'x';
	error_is($t->patch("/api/conversations/$id", { title => 'Mine' }, user => 'mallory'), 404, 'conversation_not_found',
	    'someone else\'s');
	is $t->get("/api/conversations/$id", user => 'rita')->{json}{conversation}{title}, '😀' x 200, 'nothing was changed by these';
};

subtest 'deleting' => sub {
	my $id = talk('dora', 'add task: Stay', 'script:tools');
	my $count = sub {
		join ' ', map { $pg->one("SELECT count(*) FROM parley.$_ WHERE conversation_id = ?", $id) }
		    qw(turns messages tool_calls live);
	};
	unlike $count->(), qr/^0 0 0/, 'there is something';
	error_is($t->delete("/api/conversations/$id", user => 'mallory'), 404, 'conversation_not_found', 'someone else\'s');
	my $r = $t->delete("/api/conversations/$id", user => 'dora');
	is $r->{status}, 204, 'deleted';
	is $r->{body}, '', '... without a body';
	is $count->(), '0 0 0 0', 'no row is left';
	is $pg->one('SELECT count(*) FROM parley.conversations WHERE id = ?', $id), 0, '... of the conversation either';
	is_deeply [ids(list('dora'))], [], 'not in the list';
	error_is($t->get("/api/conversations/$id", user => 'dora'), 404, 'conversation_not_found', 'read');
	error_is($t->get("/api/conversations/$id/turns/1", user => 'dora'), 404, 'turn_not_found', 'turn');
	error_is($t->patch("/api/conversations/$id", { title => 'x' }, user => 'dora'), 404, 'conversation_not_found', 'rename');
	error_is($t->delete("/api/conversations/$_", user => 'dora'), 404, 'conversation_not_found', "delete: $_") for $id, $nobody, 'x';
	error_is($t->chat('dora', 'Hello', conversation_id => $id), 404, 'conversation_not_found', 'chat');
	like $t->chat('dora', 'show my tasks')->{json}{response}, qr/Stay/, 'what tools did stays done';
};

subtest 'deleting while a turn runs' => sub {
	my @pids = sort $t->pids;
	$model->clear;
	my $c = $t->begin_chat('dora', 'script:long', stream => JSON::XS::true);
	my $id = $c->event->{data}{conversation_id};
	is $c->event->{event}, 'delta', 'it runs';
	is $t->delete("/api/conversations/$id", user => 'dora')->{status}, 204, 'deleted';
	my $since = time;
	my ($e, $last);
	$last = $e while $e = $c->event;
	cmp_ok time - $since, '<', 4, 'the turn stops';
	is $last->{event}, 'done', 'its stream is told' or diag explain $last;
	is $last->{data}{status}, 'cancelled', '... that it was cancelled';
	like $last->{data}{response}, qr/^It /, '... with the text so far';
	ok Parley::Process::wait_for { ($model->requests)[0]{closed_early} }, 'the model is left';
	is $pg->one("SELECT count(*) FROM parley.$_ WHERE conversation_id = ?", $id), 0, "no $_ come back" for qw(turns messages live);

	# Without a stream the same, also while a tool runs: its effect stays, as it had begun.
	$pg->do(q{CREATE FUNCTION tools.dawdle() RETURNS json LANGUAGE sql AS
	    'SELECT json_build_object(''slept'', pg_sleep(1.2)::text)'; COMMENT ON FUNCTION tools.dawdle IS 'Takes its time.'});
	$t->restart_pool;
	@pids = sort $t->pids;
	for my $script (qw(long dawdle brief)) {
		$model->clear;
		$c = $t->begin_chat('dora', "script:$script");
		$id = Parley::Process::wait_for { $pg->one('SELECT conversation_id FROM parley.turns WHERE state = $$running$$') } 20;
		$model->wait_requests(1);
		sleep 0.3;
		is $t->delete("/api/conversations/$id", user => 'dora')->{status}, 204, "$script: deleted";
		my $r = $c->response;
		is $r->{status}, 200, '... the client is told' or diag $r->{body};
		is $r->{json}{status}, 'cancelled', '... that it was cancelled';
		is $pg->one("SELECT count(*) FROM parley.$_ WHERE conversation_id = ?", $id), 0, "... no $_" for qw(turns messages tool_calls live);
	}
	is_deeply [sort $t->pids], \@pids, 'the workers live';
	is $t->chat('dora', 'Hello')->{status}, 200, '... and work' for 1 .. 4;
};

subtest 'the state of a turn' => sub {
	my $body = $t->chat('tom', 'script:tools')->{json};
	my $id = $body->{conversation_id};
	my $turn = sub { my ($n, $query) = @_; $t->get("/api/conversations/$id/turns/$n" . ($query // ''), user => 'tom') };

	my $r = $turn->(1);
	is $r->{status}, 200, 'done: it is answered';
	body_ok($r->{json}, 'done');
	delete $_->{timestamp} for $body, $r->{json};
	is_deeply $r->{json}, $body, '... with the body of the turn';

	my $failed = $t->chat('tom', 'script:broken', conversation_id => $id);
	$r = $turn->(2);
	error_is($r, 200, 'model_error', 'failed', conversation_id => $id, turn => 2);
	is $r->{json}{message}, $failed->{json}{message}, '... the same sentence';
	is $r->{json}{error}, 'Bad Gateway', '... and reason';

	my $c = $t->begin_chat('tom', 'script:wait', conversation_id => $id);
	running();
	$r = $turn->(3);
	is $r->{status}, 200, 'running: it is answered';
	body_ok($r->{json}, 'running');
	is $r->{json}{status}, 'running', '... status';
	my $conversation = $t->get("/api/conversations/$id", user => 'tom')->{json};
	is_deeply [@{$conversation->{conversation}}{qw(state live_turn turns)}], ['running', 3, 3], '... and in the conversation';
	is $conversation->{messages}[-1]{turn_state}, 'running', '... and in its messages';

	my $since = time;
	$r = $turn->(3, '?wait=0');
	is $r->{json}{status}, 'running', 'wait=0 does not wait';
	cmp_ok time - $since, '<', 3, '... indeed';
	$r = $turn->(3, '?wait=20');
	is $r->{json}{status}, 'success', 'wait= waits for the end';
	is $r->{json}{response}, 'Almost.', '... and has the answer';
	cmp_ok time - $since, '<', 6, '... not longer';
	$since = time;
	$turn->(3, '?wait=20');
	cmp_ok time - $since, '<', 5, 'nothing is waited for when it is over';
	$c->response;

	error_is($turn->($_), 404, 'turn_not_found', "no turn: $_") for 4, 0, '01', -1, 'x', '1.0', '99999999999999999999', '%201', '1%20';
	error_is($turn->(1, "?wait=$_"), 422, 'validation_error', "wait=$_", field => 'wait') for -1, 61, 'x', '';
	error_is($t->get("/api/conversations/$_/turns/1", user => 'tom'), 404, 'turn_not_found', "no conversation: $_") for $nobody, 'x';
	error_is($t->get("/api/conversations/$id/turns/1", user => 'mallory'), 404, 'turn_not_found', 'someone else\'s');
	ok idle(), 'all ended';
};

# Among many users with few conversations, the plan for everybody must do for one with many as well.
subtest 'a page of a long list is all that is read' => sub {
	$pg->do(q{INSERT INTO parley.conversations (user_id, id, title, turns, created_at, updated_at)
	    SELECT u.name, gen_random_uuid(), 'one of many', 0, now() - n * interval '1 s', now() - n * interval '1 s'
	      FROM (SELECT 'few-' || i AS name, 50 AS has FROM generate_series(1, 600) i UNION ALL SELECT 'many', 3000) u,
	           generate_series(1, u.has) n}, 'parley');
	$pg->do('VACUUM ANALYZE parley.conversations', 'parley');
	my $db = $pg->dbh('parley_worker');
	my $fetched = q{SELECT idx_tup_fetch FROM pg_stat_xact_all_tables WHERE relid = 'parley.conversations'::regclass};

	for (["conversation_list('many', 21, NULL, NULL, NULL)", 'newest activity first'],
	    ["chatkit_threads('many', NULL, 21, false, NULL)", 'threads, newest first'],
	    ["chatkit_threads('many', NULL, 21, true, NULL)", 'threads, oldest first']) {
		my ($call, $name) = @$_;
		$db->begin_work;
		is scalar(@{$db->selectall_arrayref("SELECT * FROM parley.$call")}), 21, $name;
		cmp_ok $db->selectrow_array($fetched), '<', 100, '... and few rows are looked at';
		$db->rollback;
	}
};

is $t->pool->sickness, '', 'the workers are well';
done_testing;
