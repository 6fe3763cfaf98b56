# openapi.yaml is true: every kind of answer of a running server is documented, with its status, type, headers and shape.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;

BEGIN {
	eval { require JSON::Validator; require YAML::XS; 1 }
	    or plan skip_all => 'wants libjson-validator-perl and libyaml-libyaml-perl';
}

use Parley::Contract;
use Parley::Model;
use Parley::OpenApi;
use Parley::Test;

my $api = Parley::OpenApi->new;
my $model = Parley::Model->new(scripts => {
	slow => text_reply('Wait', 30_000, 'ed.'),
	refused => "status 400\nraw {}\n",
});
my $t = Parley::Test->new(model => $model, conf => { 'limits.queue' => 1, 'limits.user_turns' => 3, 'client.max_wait' => '1s' });
my $YES = JSON::XS::true;

# Asks, and holds the answer against the document.
sub ask {
	my ($what, $status, $method, $path, $body, %opt) = @_;
	my $r = $t->request($method, $path, $body, %opt);
	is $r->{status}, $status, "$what: $status" or diag $r->{body};
	$api->answer_ok($method, $path, $r, "$what: as documented");
	return $r;
}

# A stream to its end; the last event is what the document calls a Turn or an Error.
sub stream {
	my ($what, $method, $path, $body, %opt) = @_;
	my $c = $t->begin($method, $path, $body, %opt);
	$api->answer_ok($method, $path, $c->head, "$what: the stream is documented");
	my $last;
	while (my $e = $c->event) {
		$last = $e;
		$api->shape_ok(Approval => $e->{data}, "$what: approval") if $e->{event} eq 'approval';
	}
	$api->shape_ok($last->{event} eq 'error' ? 'Error' : 'Turn', $last->{data}, "$what: $last->{event}");
	return $last->{data};
}

# -- one turn

my $first = ask('a turn', 200, POST => '/api/chat', { message => 'Add task: Buy milk' })->{json};
my $id = $first->{conversation_id};
ask('a turn of the user in the path', 200, POST => '/api/alice/chat', { message => 'hi' });
ask('a turn, all of the conversation', 200, POST => '/api/chat',
    { message => 'show my tasks', conversation_id => $id, return => 'conversation' });
stream('a stream', POST => '/api/chat', { message => 'hello', stream => $YES });
my $asked = ask('a question', 200, POST => '/api/chat', { message => 'delete buy milk', conversation_id => $id })->{json};
is $asked->{status}, 'approval_required', '... is one';
ask('a conversation that waits for a yes', 200, GET => "/api/conversations/$id");
ask('a yes', 200, POST => '/api/chat',
    { conversation_id => $id, approvals => { $asked->{approvals_required}[0]{id} => $YES } });
ask('a second yes', 409, POST => '/api/chat',
    { conversation_id => $id, approvals => { $asked->{approvals_required}[0]{id} => $YES } });
ask('another task', 200, POST => '/api/chat', { message => 'Add task: Buy bread' });
stream('a question in a stream', POST => '/api/chat', { message => 'delete buy bread', stream => $YES });

# -- what is refused

ask('no JSON', 400, POST => '/api/chat', '{');
ask('no token', 401, POST => '/api/chat', { message => 'x' }, token => undef);
ask('a bad token', 401, POST => '/api/chat', { message => 'x' }, token => 'x.y.z');
ask('another user in the path', 403, POST => '/api/bob/chat', { message => 'x' });
ask('a conversation of nobody', 404, POST => '/api/chat',
    { message => 'x', conversation_id => '00000000-0000-4000-8000-000000000000' });
ask('a body too large', 413, POST => '/api/chat', { message => 'x' x 70_000 });
ask('another type', 415, POST => '/api/chat', 'message=x', headers => { 'Content-Type' => 'text/plain' });
ask('a field too much', 422, POST => '/api/chat', { message => 'x' x 2001 });
my %key = (headers => { 'Idempotency-Key' => 'k1' });
ask('a key', 200, POST => '/api/chat', { message => 'hi' }, %key);
ask('the same key for another body', 422, POST => '/api/chat', { message => 'ho' }, %key);
$api->answer_ok(POST => '/api/chat', $t->request(PUT => '/api/chat', '{}'), 'another method: as documented');

# -- conversations and turns

my $list = ask('the list', 200, GET => '/api/conversations?limit=1')->{json};
ask('its next page', 200, GET => "/api/conversations?limit=1&cursor=$list->{next_cursor}");
ask('a cursor of nobody', 422, GET => '/api/conversations?cursor=x');
ask('a conversation', 200, GET => "/api/conversations/$id?limit=2&runs=all");
ask('one of nobody', 404, GET => '/api/conversations/00000000-0000-4000-8000-000000000000');
ask('another title', 200, PATCH => "/api/conversations/$id", { title => 'Milk' });
ask('no title', 422, PATCH => "/api/conversations/$id", { title => '' });
ask('a turn that ended', 200, GET => "/api/conversations/$id/turns/1");
ask('no such turn', 404, GET => "/api/conversations/$id/turns/99");
ask('a wait too long', 422, GET => "/api/conversations/$id/turns/1?wait=999");
stream('a turn attached to', GET => "/api/conversations/$id/turns/1/events", undef);
ask('stopping what has ended', 409, POST => "/api/conversations/$id/turns/1/cancel");
ask('again, what is not the last', 409, POST => "/api/conversations/$id/turns/1/retry");
ask('again', 200, POST => "/api/conversations/$first->{conversation_id}/turns/3/retry");
ask('again, of nobody', 404, POST => "/api/conversations/$id/turns/99/retry");

# -- turns that take long, fail, and wait

my $slow = ask('a turn that takes longer than anybody waits', 202, POST => '/api/chat', { message => 'script:slow' })->{json};
my $turn = "/api/conversations/$slow->{conversation_id}/turns/1";
ask('a turn that runs', 200, GET => $turn);
ask('a message behind it, not to wait', 409, POST => '/api/chat',
    { message => 'hi', conversation_id => $slow->{conversation_id}, on_busy => 'reject' });
ask('a message behind it', 202, POST => '/api/chat', { message => 'hi', conversation_id => $slow->{conversation_id} });
ask('one too many behind it', 409, POST => '/api/chat', { message => 'hi', conversation_id => $slow->{conversation_id} });
ask('a conversation that is busy', 200, GET => "/api/conversations/$slow->{conversation_id}");
ask('stopping a turn', 202, POST => "$turn/cancel");
ask('a turn that was stopped', 200, GET => "$turn?wait=10");
ask('deleting', 204, DELETE => "/api/conversations/$slow->{conversation_id}");
ask('deleting again', 404, DELETE => "/api/conversations/$slow->{conversation_id}");
my $failed = ask('a model that fails', 502, POST => '/api/chat', { message => 'script:refused' })->{json};
ask('a turn that failed', 200, GET => "/api/conversations/$failed->{conversation_id}/turns/1");
ask('a conversation with a turn that failed', 200, GET => "/api/conversations/$failed->{conversation_id}");

# -- operations

ask('health', 200, GET => '/api/health', undef, token => undef);
ask('metrics', 200, GET => '/api/metrics', undef, token => undef);
$api->answer_ok(GET => '/api/metrics', $t->get('/api/metrics', headers => { 'X-Forwarded-For' => '192.0.2.1' }),
    'metrics, from elsewhere: as documented');
ask('the tools', 200, POST => '/mcp', { jsonrpc => '2.0', id => 1, method => 'tools/list' },
    headers => { Accept => 'application/json, text/event-stream', 'MCP-Protocol-Version' => '2025-06-18' });
ask('a notification', 202, POST => '/mcp', { jsonrpc => '2.0', method => 'notifications/initialized' },
    headers => { Accept => 'application/json, text/event-stream', 'MCP-Protocol-Version' => '2025-06-18' });
ask('ChatKit', 200, POST => '/api/chatkit', { type => 'threads.list', params => {} });
ask('ChatKit, unknown', 400, POST => '/api/chatkit', { type => 'threads.dance', params => {} });

is_deeply [grep { $_ ne 'POST /api/{user_id}/chat 202' && $_ !~ m{/retry 202$} } $api->unseen], [],
    'every success that is documented was seen';

done_testing;
