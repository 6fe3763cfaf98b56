# Many users, all endpoints, ids of everybody: nobody ever gets a byte of somebody else's.
#
# Each user says and does things with a mark of his own in them. Then requests are made up at random, with ids, turn numbers,
# cursors, event ids, idempotency keys, questions and tasks drawn from what anybody has seen so far, eight at a time.
# In whatever comes back to a user there must be no mark, no name and no id of another that he did not send himself.
# PARLEY_SEED repeats a run, PARLEY_REQUESTS says how many requests.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use List::Util qw(shuffle);
use Test::More;

use Parley::Test;

my $seed = $ENV{PARLEY_SEED} // int rand 1e9;
my $requests = $ENV{PARLEY_REQUESTS} // 2000;
srand $seed;
diag "PARLEY_SEED=$seed PARLEY_REQUESTS=$requests";

my $json = JSON::XS->new->utf8->canonical->allow_nonref;
my ($YES, $NO) = (JSON::XS::true, JSON::XS::false);
my $UUID = qr/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/;
my @users = map { sprintf 'user%d%06x', $_, rand 0xffffff } 1 .. 6;
my %mark = map { $_ => sprintf('mark%s%06x', join('', map { chr 97 + rand 26 } 1 .. 5), rand 0xffffff) } @users;

# With limits that nobody comes near, so that there are accounts.
my $t = Parley::Test->new(workers => 3, conf => { 'turn.lease' => '3s', 'limits.user_turns_per_minute' => 1000,
    'limits.user_tokens_per_day' => 100_000_000 });
my $pg = $t->pg;

# What anybody has seen: of each kind a list; and whose each id is.
my (%pool, %owner, %questions);
sub any { my $list = $pool{$_[0]} // []; return @$list ? $list->[rand @$list] : '00000000-0000-4000-8000-000000000000' }
sub one { return $_[rand @_] }

sub seen {
	my ($user, $text) = @_;
	for my $id ($text =~ /"((?:wf_|ask_|ev_)?$UUID)"/g) {
		$owner{$id} //= $user;
		push @{$pool{id}}, $id;
	}
	push @{$pool{conversation}}, $text =~ /"(?:conversation_id|thread_id)":"($UUID)"/g;
	push @{$pool{cursor}}, $text =~ /"(?:next_cursor|after)":"([^"]+)"/g;
	push @{$pool{event}}, $text =~ /^id: (\S+)$/mg;
	if ($text =~ /"approvals_required":\[\{(.*?)\}\]/s) {
		my $c = ($text =~ /"conversation_id":"($UUID)"/)[0];
		push @{$pool{question}}, map { [$c, $_] } $1 =~ /"id":"($UUID)"/g;
	}
}

# Everybody has a few conversations, tasks, a question, keys.
for my $user (@users) {
	my $r = $t->chat($user, "Add task: first of $mark{$user}");
	seen($user, $r->{body});
	my $id = $r->{json}{conversation_id};
	seen($user, $t->chat($user, "Add task: second of $mark{$user}", conversation_id => $id)->{body});
	seen($user, $t->post('/api/chat', { message => "hello from $mark{$user}" }, user => $user,
	    headers => { 'Idempotency-Key' => 'key-1' })->{body});
	seen($user, $t->chat($user, "delete second of $mark{$user}")->{body});
	seen($user, $t->get('/api/conversations?limit=1', user => $user)->{body});
	seen($user, $t->get("/api/conversations/$id?limit=1", user => $user)->{body});
	seen($user, $t->begin_chat($user, "hi, $mark{$user}", stream => $YES)->response->{body});
}
cmp_ok scalar @{$pool{question} // []}, '>=', 2, 'there are questions to be answered by the wrong user';
cmp_ok scalar @{$pool{cursor} // []}, '>', 5, 'there are cursors to be used by the wrong user';

# -- one request of a user, with whatever of anybody's

my %mcp = (Accept => 'application/json, text/event-stream', 'MCP-Protocol-Version' => '2025-06-18');
sub tool_call {
	my ($name, %arguments) = @_;
	return (POST => '/mcp', { jsonrpc => '2.0', id => 1, method => 'tools/call',
	    params => { name => $name, arguments => \%arguments } }, headers => \%mcp);
}
sub kit {
	my ($type, %params) = @_;
	return (POST => '/api/chatkit', { type => $type, params => \%params });
}
my %say = (content => [{ type => 'input_text', text => '' }], attachments => [], inference_options => {}, quoted_text => undef);

my @kinds = (
	sub { (POST => '/api/chat', { message => "again $mark{$_[0]}", conversation_id => any('conversation') }) },
	sub { (POST => '/api/chat', { message => 'show my tasks', conversation_id => any('conversation'), return => 'conversation' }) },
	sub { (POST => '/api/chat', { message => 'show my tasks' }, headers => { 'Idempotency-Key' => 'key-' . int rand 4 }) },
	sub { (POST => '/api/chat', { message => 'yes', conversation_id => any('conversation') }) },
	sub { (POST => "/api/@{[one(@users)]}/chat", { message => 'show my tasks' }) },
	sub { (POST => '/api/chat', { message => 'hello', conversation_id => any('conversation'), stream => $YES,
	    on_busy => one(qw(queue reject interrupt)) }) },
	sub {
		my $q = one(@{$pool{question}});
		return (POST => '/api/chat', { conversation_id => one($q->[0], any('conversation')), approvals => { $q->[1] => one($YES, $NO) } });
	},
	sub { (GET => '/api/conversations?limit=' . (1 + int rand 5) . '&cursor=' . any('cursor'), undef) },
	sub { (GET => '/api/conversations?q=' . one(values %mark), undef) },
	sub { (GET => '/api/conversations/' . any('conversation') . '?limit=2&cursor=' . any('cursor'), undef) },
	sub { (GET => '/api/conversations/' . any('conversation') . '?runs=all', undef) },
	sub { (GET => '/api/conversations/' . any('conversation') . '/turns/' . (1 + int rand 3), undef) },
	sub { (GET => '/api/conversations/' . any('conversation') . '/turns/' . (1 + int rand 3) . '?wait=1', undef) },
	sub { (GET => '/api/conversations/' . any('conversation') . '/turns/' . (1 + int rand 3) . '/events', undef,
	    headers => { 'Last-Event-ID' => any('event') }) },
	sub { (PATCH => '/api/conversations/' . any('conversation'), { title => "of $mark{$_[0]}" }) },
	sub { (POST => '/api/conversations/' . any('conversation') . '/turns/' . (1 + int rand 3) . '/cancel', undef) },
	sub { (POST => '/api/conversations/' . any('conversation') . '/turns/' . (1 + int rand 3) . '/retry', undef,
	    headers => { 'Idempotency-Key' => 'key-' . int rand 4 }) },
	sub { rand() < .2 ? (DELETE => '/api/conversations/' . any('conversation'), undef) : (GET => '/api/health', undef) },
	sub { (GET => '/api/metrics', undef) },
	sub { tool_call('list_tasks', rand() < .5 ? (user_id => one(@users)) : ()) },
	sub { tool_call('complete_task', task_id => 1 + int rand 9, rand() < .3 ? (user_id => one(@users)) : ()) },
	sub { tool_call('update_task', task_id => 1 + int rand 9, title => "mended by $mark{$_[0]}") },
	sub { kit('threads.get_by_id', thread_id => any('conversation')) },
	sub { kit('threads.list', limit => 5, order => one(qw(asc desc)), after => one(undef, any('conversation'))) },
	sub { kit('items.list', thread_id => any('conversation'), limit => 5, order => 'desc', after => one(undef, any('id'))) },
	sub { kit('items.feedback', thread_id => any('conversation'), item_ids => [any('id')], kind => 'positive') },
	sub { kit('threads.create', input => { %say, content => [{ type => 'input_text', text => "kit of $mark{$_[0]}" }] }) },
	sub { rand() < .1 ? kit('threads.delete', thread_id => any('conversation')) : kit('threads.get_by_id', thread_id => any('id')) },
	sub { kit('threads.update', thread_id => any('conversation'), title => "kit $mark{$_[0]}") },
	sub { kit('threads.add_user_message', thread_id => any('conversation'), input => { %say, content => [{ type => 'input_text', text => "hello $mark{$_[0]}" }] }) },
	sub { kit('threads.retry_after_item', thread_id => any('conversation'), item_id => any('id')) },
	sub { my $q = one(@{$pool{question}}); kit('threads.add_structured_input', thread_id => $q->[0],
	    input => { status => 'answered', answers => { $q->[1] => { values => ['Approve'] } } }, item_id => any('id')) },
);

# What of others is in it that was not sent.
sub strange {
	my ($user, $sent, $got) = @_;
	my @found;
	for my $other (grep { $_ ne $user } @users) {
		push @found, grep { index($got, $_) >= 0 && index($sent, $_) < 0 } $other, $mark{$other};
	}
	my %ids = map { $_ => 1 } $got =~ /($UUID)/g;
	push @found, grep { ($owner{$_} // $user) ne $user && index($sent, $_) < 0 } sort keys %ids;
	return @found;
}

my ($done, $refused, @leaks, @odd) = (0, 0);
while ($done < $requests) {
	my @batch = map {
		my $user = one(@users);
		my ($method, $path, $body, %opt) = $kinds[rand @kinds]->($user);
		+{ user => $user, sent => "$method $path " . $json->encode([$body, $opt{headers}]),
		  client => $t->begin($method, $path, $body, user => $user, %opt, seconds => 60) };
	} 1 .. 8;
	for my $b (@batch) {
		my $r = $b->{client}->response;
		my $got = $json->encode([map { ref $_ ? '' : $_ // '' } %{$r->{headers}}]) . $r->{body};
		$done++;
		$refused++ if $r->{status} >= 400;
		push @odd, "$r->{status} for $b->{sent}: $r->{body}" if $r->{status} >= 500 && $r->{body} !~ /"model_/;
		push @leaks, "$b->{user} <- $_ in the answer to $b->{sent}" for strange($b->{user}, $b->{sent}, $got);
		seen($b->{user}, $r->{body}) unless $r->{status} >= 400;
	}
}
is_deeply \@leaks, [], "$done requests ($refused refused): not a byte of another user";
is_deeply \@odd, [], '... and none of them broke anything';

# -- and so in the database

my @tables = map { $_->{name} } @{$pg->rows(<<'SQL')};
SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id'
 WHERE n.nspname IN ('parley', 'tasks') AND c.relkind IN ('r', 'p') ORDER BY 1
SQL
for my $table (@tables) {
	my @mixed;
	for my $user (@users) {
		for my $other (grep { $_ ne $user } @users) {
			push @mixed, @{$pg->rows("SELECT user_id FROM $table x WHERE user_id = ? AND strpos(x::text, ?) > 0", $user, $mark{$other})};
		}
	}
	is scalar(@mixed), 0, "$table: nobody's row has a word of somebody else's"
	    unless $table eq 'parley.idempotency_keys';
}

# -- the worker's role, by hand: every table, every function, with the ids of another

for my $table (@tables) {
	next if $table =~ /^tasks/;
	is $pg->psql("SELECT count(*) FROM $table", 'parley_worker'), "0\n", "$table: no user, no rows";
	is $pg->psql("SET parley.user_id = ''; SELECT count(*) FROM $table", 'parley_worker'), "0\n", '... an empty one, none';
	my $mine = $pg->psql("SET parley.user_id = '$users[1]'; SELECT DISTINCT user_id FROM $table", 'parley_worker');
	like $mine, qr/\A(?:\Q$users[1]\E\n)?\z/, '... one user, his alone';
}

my ($victim, $thief) = @users[0, 1];
sub victims_rows {
	return join '', map { $pg->psql("SELECT md5(coalesce(string_agg(x::text, '|' ORDER BY x::text), '')) FROM $_ x WHERE user_id = '$victim'") } @tables;
}
my ($conversation, $message) = map { @$_{qw(conversation_id id)} } @{$pg->rows(
    'SELECT conversation_id, id FROM parley.messages WHERE user_id = ? ORDER BY created_at LIMIT 1', $victim)};
ok $conversation, 'somebody has a conversation to be robbed of';
my $before = victims_rows();
my %value = (uuid => "'$conversation'::uuid", 'uuid[]' => "ARRAY['$conversation','$message']::uuid[]", integer => '1', bigint => '1',
    text => "'key-1'", 'text[]' => "ARRAY['key-1','$message']", boolean => 'true', json => q('{}'), jsonb => q('{}'),
    'integer[]' => 'ARRAY[1]', 'bigint[]' => 'ARRAY[1]', 'boolean[]' => 'ARRAY[true]', 'timestamp with time zone' => 'now()');
my ($called, @told) = (0);
for my $f (@{$pg->rows(<<'SQL')}) {
SELECT p.oid::regprocedure::text AS name, format('parley.%I', p.proname) AS call,
       array_to_json(ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n) ORDER BY n))::text AS types
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = 'parley' AND p.prokind = 'f' AND p.proargnames[1] = 'p_user' AND has_function_privilege('parley_worker', p.oid, 'EXECUTE')
 ORDER BY 1
SQL
	my (undef, @types) = @{$json->decode($f->{types})};
	my $arguments = join ', ', "'$thief'", map { $value{$_} // 'NULL' } @types;
	# With the user set, as it would be after an earlier function of the same transaction; then left to the function itself.
	for my $set ("SET parley.user_id = '$thief'; ", '') {
		my $got = $pg->psql("${set}SELECT x::text FROM $f->{call}($arguments) x", 'parley_worker');
		$called++;
		push @told, "$f->{name}: $got" if $got =~ /\Q$mark{$victim}\E/ || $got =~ /\Q$victim\E/;
	}
}
cmp_ok $called, '>', 60, "$called calls of functions with a thief's name and a victim's ids";
is_deeply \@told, [], '... told him nothing';
is victims_rows(), $before, "... and changed nothing of the victim's";

# -- the roles that look across users, by hand: whatever they may read, and whatever they may call, carries nobody's words

# Nobody's mark is in it; who a row belongs to they may know.
sub marks { return grep { index($_[0], $mark{$_}) >= 0 } @users }

cmp_ok scalar @{$pg->rows("SELECT DISTINCT user_id FROM $_")}, '>', 1, "$_ has rows of several users"
    for qw(parley.usage parley.pace parley.messages parley.tool_calls parley.turns parley.conversations);
for my $role (qw(parley_pulse parley_ops parley_tool)) {
	my %columns;
	push @{$columns{$_->{name}}}, $_->{attname} for @{$pg->rows(<<'SQL', $role)};
SELECT format('%I.%I', n.nspname, c.relname) AS name, a.attname
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE n.nspname = 'parley' AND c.relkind IN ('r', 'p', 'v', 'm') AND has_column_privilege($1, c.oid, a.attnum, 'SELECT') ORDER BY 1, 2
SQL
	my @told;
	for my $table (sort keys %columns) {
		my $list = join ', ', map { qq("$_") } @{$columns{$table}};
		push @told, "$table: $_" for marks($pg->psql("SET ROLE $role; SELECT $list FROM $table", 'postgres'));
	}
	is_deeply \@told, [], "$role: in the " . keys(%columns) . " tables that it may read there is no word of anybody";
	is_deeply [grep { /^(?:content|raw|partial|title|parameters|result|question)$/ } map { @$_ } values %columns], [],
	    '... and no column that could hold one';
	like $pg->psql("SET ROLE $role; SELECT x FROM $_ x", 'postgres'), qr/permission denied/, "$role: no whole row of $_"
	    for qw(parley.messages parley.tool_calls parley.live parley.conversations);
}
for my $role (qw(parley_worker parley_pulse parley_ops)) {
	my @told;
	my $called = 0;
	# What is known of one user, for those who name him: his export is for parley_ops, the rest was tried above.
	for my $f (@{$pg->rows(<<'SQL', $role)}) {
SELECT p.oid::regprocedure::text AS name, format('parley.%I', p.proname) AS call,
       array_to_json(ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n) ORDER BY n))::text AS types
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = 'parley' AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype AND p.proargnames[1] IS DISTINCT FROM 'p_user'
   AND has_function_privilege($1, p.oid, 'EXECUTE')
 ORDER BY 1
SQL
		my $arguments = join ', ', map { $value{$_} // 'NULL' } @{$json->decode($f->{types})};
		push @told, "$f->{name}: $_" for marks($pg->psql("SET ROLE $role; SELECT x::text FROM $f->{call}($arguments) x", 'postgres'));
		$called++;
	}
	is_deeply \@told, [], "$role: $called functions that name no user tell nobody's words";
}

done_testing;
