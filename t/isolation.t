# Two users who try to reach each other's rows: by every endpoint, by tool arguments, by psql.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;

use Parley::Contract;
use Parley::Process;
use Parley::Test;

my $NOBODYS = '00000000-0000-4000-8000-000000000000';
my $model = Parley::Model->new(scripts => {});
my $pg = Parley::Postgres->new;

# Tools whose author forgot that there is more than one user.
$pg->psql(<<'SQL');
SET ROLE parley_owner;
CREATE FUNCTION tools.all_tasks() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT title FROM tasks.tasks';
CREATE FUNCTION tools.as_alice() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	UPDATE tasks.tasks SET title = 'stolen' WHERE user_id = 'alice';
	RETURN (SELECT count(*) FROM tasks.tasks WHERE title = 'stolen');
END
$$;
CREATE FUNCTION tools.look() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM parley.messages';
SQL

my $t = Parley::Test->new(pg => $pg, model => $model);
my $json = JSON::XS->new->utf8->canonical;

# Each has a conversation with tool calls, and enough of them for cursors.
my %id;
for my $user (qw(alice bob)) {
	for my $i (1 .. 3) {
		my $r = $t->chat($user, "add task: the secret $i of $user", $id{$user} ? (conversation_id => $id{$user}) : ());
		$id{$user} = $r->{json}{conversation_id};
	}
	$t->chat($user, "another secret of $user");
}

# All that a user has, as rows.
sub rows_of {
	my ($user) = @_;
	return $json->encode([map {
		$pg->rows("SELECT * FROM $_ x WHERE user_id = ? ORDER BY x::text", $user)
	} qw(parley.conversations parley.turns parley.messages parley.tool_calls tasks.tasks)]);
}

# An answer without what is different in each.
sub likeness {
	my ($r, @ids) = @_;
	my %body = ref $r->{json} eq 'HASH' ? %{$r->{json}} : ();
	delete $body{request_id};
	my $text = $json->encode([$r->{status}, \%body,
	    { map { $_ => $r->{headers}{$_} } grep { !/^(?:date|x-request-id)$/ } keys %{$r->{headers}} }]);
	$text =~ s/\Q$_\E/ID/g for @ids;
	return $text;
}

subtest 'ids of another user' => sub {
	my $before = rows_of('alice');
	my %try = (
		'read' => sub { $t->get("/api/conversations/$_[0]", user => 'bob') },
		'rename' => sub { $t->patch("/api/conversations/$_[0]", { title => 'mine' }, user => 'bob') },
		'delete' => sub { $t->delete("/api/conversations/$_[0]", user => 'bob') },
		'turn 1' => sub { $t->get("/api/conversations/$_[0]/turns/1", user => 'bob') },
		'turn 1 with wait' => sub { $t->get("/api/conversations/$_[0]/turns/1?wait=1", user => 'bob') },
		'turn 99' => sub { $t->get("/api/conversations/$_[0]/turns/99", user => 'bob') },
		'chat' => sub { $t->chat('bob', 'show my tasks', conversation_id => $_[0]) },
		'stream' => sub { $t->begin_chat('bob', 'hello', conversation_id => $_[0], stream => JSON::XS::true)->response },
		'chat by path' => sub {
			$t->post('/api/bob/chat', { message => 'hello', conversation_id => $_[0] }, user => 'bob')
		},
		'return conversation' => sub { $t->chat('bob', 'hello', conversation_id => $_[0], return => 'conversation') },
	);
	for my $what (sort keys %try) {
		my $foreign = $try{$what}->($id{alice});
		my $unknown = $try{$what}->($NOBODYS);
		is $foreign->{status}, 404, "$what: 404" or diag $foreign->{body};
		is likeness($foreign, $id{alice}), likeness($unknown, $NOBODYS), "$what: looks exactly like an unknown id";
		unlike $foreign->{body}, qr/secret|alice/, "$what: says nothing";
	}
	is $t->post('/api/alice/chat', { message => 'hello' }, user => 'bob')->{status}, 403, "another user's path";
	is $t->post('/api/%61lice/chat', { message => 'hello' }, user => 'bob')->{status}, 403, '... however it is written';
	is rows_of('alice'), $before, "nothing of alice's has changed";
};

subtest 'cursors of another user' => sub {
	my $list = $t->get('/api/conversations?limit=1', user => 'alice')->{json}{next_cursor};
	my $page = $t->get("/api/conversations/$id{alice}?limit=2", user => 'alice')->{json}{next_cursor};
	ok $list && $page, 'alice has cursors';

	my $r = $t->get("/api/conversations?cursor=$list", user => 'bob');
	is $r->{status}, 200, 'a cursor is a place, not a key';
	is_deeply [grep { $_->{title} !~ /bob/ } @{$r->{json}{conversations}}], [], 'bob sees his own';
	unlike $r->{body}, qr/alice|\Q$id{alice}\E/, '... alone';
	$r = $t->get("/api/conversations/$id{bob}?cursor=$page", user => 'bob');
	is $r->{status}, 200, 'of messages as well';
	unlike $r->{body}, qr/alice/, '... his own alone';
	my ($foreign, $unknown) = map { $t->get("/api/conversations/$_?cursor=$page", user => 'bob') } $id{alice}, $NOBODYS;
	is likeness($foreign, $id{alice}), likeness($unknown, $NOBODYS), 'with her id: as if there were none';
	unlike $t->get('/api/conversations?q=alice', user => 'bob')->{body}, qr/secret/, 'a search finds nothing of hers';
	unlike $t->get('/api/conversations', user => 'bob')->{body}, qr/\Q$id{alice}\E/, 'nor does the list';
};

subtest 'fields and headers that name another user' => sub {
	my $r = $t->chat('bob', 'show my tasks', user_id => 'alice', user => 'alice');
	unlike $r->{body}, qr/of alice/, 'fields of the body';
	for my $h ('X-User-Id', 'X-User', 'X-Remote-User', 'Remote-User') {
		$r = $t->post('/api/chat?user_id=alice', { message => 'show my tasks' }, user => 'bob', headers => { $h => 'alice' });
		unlike $r->{body}, qr/of alice/, "query and $h";
	}
};

# One turn of bob in which the model calls these tools; the calls as the client sees them.
my $scripts = 0;
sub tool_calls {
	my $name = 'isolation-' . ++$scripts;
	$model->script($name, join "---\n", call_reply(@_), text_reply('So.'));
	my $r = $t->chat('bob', "script:$name");
	is $r->{status}, 200, 'the turn is done' or diag $r->{body};
	return @{$r->{json}{tool_calls}};
}

subtest 'tool arguments' => sub {
	my $before = rows_of('alice');
	my ($own, @other) = tool_calls(
		list_tasks => { user_id => 'bob' },
		list_tasks => { user_id => 'alice' },
		list_tasks => { user_id => undef },
		list_tasks => { user_id => ['bob'] },
		list_tasks => { user_id => '' },
		add_task => { title => 'x', user_id => 'alice' },
		complete_task => { task_id => 1, user_id => 'alice' },
		update_task => { task_id => 1, title => 'x', user_id => 'alice' },
		delete_task => { task_id => 1, user_id => 'alice' });
	ok !$own->{is_error}, 'the own user is dropped';
	unlike $json->encode($own->{result}), qr/alice/, '... and sees his own';
	for my $c (@other) {
		ok $c->{is_error}, "$c->{tool_name} for " . $json->encode($c->{parameters}{user_id} // 'null') . ' is an error';
		is $c->{result}{error}, 'access denied', '... access denied';
	}
	my @many = tool_calls(map { ($_ => { task_id => 1, 'parley.user_id' => 'alice' }) } qw(complete_task delete_task));
	is_deeply [grep { !$_->{is_error} } @many], [], 'other names do not help';
	my ($mine) = tool_calls(complete_task => { task_id => 1 });
	is $mine->{result}{title}, 'the secret 1 of bob', 'the number of a task is the number of his own';
	is rows_of('alice'), $before, "nothing of alice's has changed";
};

subtest 'text that looks like SQL' => sub {
	my $before = rows_of('alice');
	my @evil = (
		"x'); DELETE FROM tasks.tasks; --",
		"'; SELECT set_config('parley.user_id', 'alice', false); --",
		'$$; RESET ROLE; $$', '\\\'; DROP TABLE tasks.tasks; --', "E'\\x27'", '%s %1$s %I %L', '$1 {} ${x}', "\x{2019}; --",
	);
	my @calls = tool_calls(map { (add_task => { title => $_, description => $_ }) } @evil);
	is_deeply [map { $_->{result}{task}{title} } @calls], \@evil, 'a title is a title';
	is_deeply [map { $_->{result}{task}{description} } @calls], \@evil, 'a description is a description';
	my @bad = tool_calls(
		list_tasks => { status => "all' OR '1'='1" },
		list_tasks => { "status => 'all'); --" => 'x' },
		complete_task => { task_id => '1 OR true' },
		"list_tasks(); --" => {},
		'tools.list_tasks' => {}, pg_sleep => { 1 => 1 }, 'parley.conversation_delete' => {}, who => {}, result => {});
	is_deeply [grep { !$_->{is_error} } @bad], [], 'what is no argument and no tool is refused';
	for my $text (@evil) {
		my $r = $t->chat('bob', $text);
		is $r->{json}{messages}[0]{content}, $text, 'a message is a message';
		is $t->patch("/api/conversations/$r->{json}{conversation_id}", { title => $text }, user => 'bob')->{json}{title},
		    $text, 'and so is a title';
	}
	is $t->chat("bob' OR '1'='1", 'show my tasks')->{json}{tool_calls}[0]{result}{tasks}[0], undef, 'a user is a name';
	is rows_of('alice'), $before, "nothing of alice's has changed";
};

subtest 'a tool that forgets its condition' => sub {
	my $before = rows_of('alice');
	my @calls = tool_calls(all_tasks => {}, as_alice => {}, look => {});
	ok !$calls[0]{is_error}, 'it runs' or diag $json->encode($calls[0]);
	is_deeply [grep { /of alice/ } @{$calls[0]{result}}], [], '... and sees the rows of its user alone';
	is $calls[1]{result}, 0, '... and changes none of others' or diag $json->encode($calls[1]);
	ok $calls[2]{is_error}, '... and cannot read messages at all';
	is rows_of('alice'), $before, "nothing of alice's has changed";
};

subtest 'as the roles of the database' => sub {
	my @tables = qw(conversations turns messages tool_calls);
	for my $table (@tables) {
		is $pg->psql("SELECT count(*) FROM parley.$table", 'parley_worker'), "0\n", "worker, $table: no setting, no rows";
		is $pg->psql("SET parley.user_id = ''; SELECT count(*) FROM parley.$table", 'parley_worker'), "0\n", '... empty, no rows';
		is $pg->psql("SET parley.user_id = 'bob'; SELECT DISTINCT user_id FROM parley.$table", 'parley_worker'), "bob\n",
		    "... bob, only bob's";
	}
	is $pg->psql("SET ROLE parley_tool; SET parley.user_id = 'bob'; SELECT DISTINCT user_id FROM tasks.tasks", 'parley_worker'),
	    "bob\n", "a tool sees only bob's tasks";
	for my $column (qw(content raw id)) {
		like $pg->psql("SET ROLE parley_pulse; SELECT $column FROM parley.messages", 'postgres'), qr/permission denied/,
		    "the pulse cannot read $column of a message";
	}
	like $pg->psql('SET ROLE parley_pulse; SELECT parameters FROM parley.tool_calls', 'postgres'), qr/permission denied/, '... nor a call';
	like $pg->psql('SET ROLE parley_pulse; SELECT title FROM parley.conversations', 'postgres'), qr/permission denied/, '... nor a title';
	like $pg->psql('SET ROLE parley_pulse; SELECT partial FROM parley.live', 'postgres'), qr/permission denied/, '... nor what is being said';
	is $pg->psql("SET ROLE parley_pulse; SELECT count(DISTINCT user_id) > 1 FROM parley.turns", 'postgres'), "t\n",
	    '... but sees the turns of all';
};

# The exit status and the log of workers that should not work under this role.
sub refused {
	my ($role) = @_;
	my $p = Parley::Pool->new(how => 'listen', workers => 1, env => { PARLEY_AUTH_SECRET => $Parley::Test::SECRET },
	    conf => { 'database.url' => $pg->url($role), 'model.base_url' => $model->url });
	my $pid = $p->parent_pid;
	my $ended = Parley::Process::wait_for { waitpid($pid, 1) == $pid } 20;
	my $status = $ended ? $? >> 8 : -1;
	delete $p->{process}{pid} if $ended;
	return ($status, $p->log_text);
}

subtest 'a role that sees everything' => sub {
	$pg->psql('CREATE ROLE sly LOGIN BYPASSRLS IN ROLE parley_worker; ALTER ROLE parley_owner LOGIN;
	    ALTER TABLE parley.live NO FORCE ROW LEVEL SECURITY');
	for my $role (qw(postgres sly parley_owner)) {
		my ($status, $log) = refused($role);
		is $status, 3, "no worker works as $role";
		like $log, qr/row level security/, '... and it says why';
	}
	$pg->psql('ALTER TABLE parley.live FORCE ROW LEVEL SECURITY; ALTER ROLE parley_owner NOLOGIN');
};

unlike $t->log_text, qr/secret \d of|stolen|DROP TABLE/, 'nothing private in the log';
done_testing;
