package Parley::Contract;

# The shapes of the HTTP contract, as checks of Test::More.
#
#	error_is($r, 404, 'not_found', 'no such address', field => 'message');
#	body_ok($r->{json}, 'one turn');	# of POST /api/chat
#	message_ok($m, 'the answer');
#	conversation_ok($c, 'the conversation');
#	text_reply('Hello, ', 'world.');	# a script's lines for a plain answer
#	call_reply(list_tasks => {});		# … for an answer that calls tools

use strict;
use warnings;

use Exporter 'import';
use JSON::XS ();
use Test::More;

our @EXPORT = qw(body_ok call_reply conversation_ok error_is message_ok text_reply $TIME $UUID);

our $UUID = qr/\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\z/;
our $TIME = qr/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\z/;

my $JSON = JSON::XS->new->utf8->canonical->allow_nonref;
my $TEXT = JSON::XS->new->canonical->allow_nonref;		# for JSON inside of JSON

# The type that a value has in JSON.
sub _type {
	my ($v) = @_;
	return 'null' unless defined $v;
	return { HASH => 'object', ARRAY => 'array' }->{ref $v} // 'boolean' if ref $v;
	return $JSON->encode($v) =~ /^"/ ? 'string' : 'number';
}

# Exactly these members, each of its type or pattern; a name that ends with ? may be absent.
sub _members_ok {
	my ($o, $name, %want) = @_;
	my %left = %{ref $o eq 'HASH' ? $o : {}};
	my @bad;

	for my $key (sort keys %want) {
		my ($member, $maybe) = $key =~ /^(.*?)(\??)$/;
		if (!exists $left{$member}) {
			push @bad, "no $member" unless $maybe;
			next;
		}
		my $v = delete $left{$member};
		my $ok = ref $want{$key} ? !ref $v && defined $v && $v =~ $want{$key} : _type($v) =~ /^(?:$want{$key})$/;
		push @bad, "$member is " . $JSON->encode($v) unless $ok;
	}
	push @bad, map { "$_ is unknown" } sort keys %left;
	my $fine = ok !@bad, $name;
	diag join '; ', @bad unless $fine;
	return $fine;
}

# One that has not been made has no result and no time.
sub call_ok {
	my ($c, $name) = @_;
	return _members_ok($c, $name,
	    id => $UUID, tool_name => 'string', parameters => 'object', result => 'object|array|string|number|boolean|null',
	    is_error => 'boolean',
	    exists $c->{executed_at} ? (executed_at => $TIME, duration_ms => 'number') : (result => 'null'));
}

sub approval_ok {
	my ($a, $name) = @_;
	return _members_ok($a, $name, id => $UUID, tool_name => 'string', parameters => 'object', question => qr/\S/,
	    expires_at => $TIME);
}

sub message_ok {
	my ($m, $name) = @_;
	_members_ok($m, $name,
	    id => $UUID, turn => 'number', turn_state => qr/\A(?:queued|running|approval_required|done|failed|cancelled)\z/,
	    run => 'number', role => qr/\A(?:user|assistant)\z/, content => 'string', created_at => $TIME,
	    tool_calls => 'array', 'error_code?' => 'string', 'interrupted?' => 'boolean', 'model?' => 'string');
	call_ok($_, "$name: a call") for @{$m->{tool_calls} // []};
}

sub body_ok {
	my ($b, $name) = @_;
	_members_ok($b, "$name: the body",
	    status => qr/\A(?:success|approval_required|cancelled|running|queued)\z/, conversation_id => $UUID,
	    turn => 'number', response => 'string', tool_calls => 'array', approvals_required => 'array',
	    messages => 'array', usage => 'object', model => 'string|null', timestamp => $TIME) or return;
	_members_ok($b->{usage}, "$name: usage", input_tokens => 'number', output_tokens => 'number');
	message_ok($_, "$name: a message") for @{$b->{messages}};
	call_ok($_, "$name: a call") for @{$b->{tool_calls}};
	approval_ok($_, "$name: a question") for @{$b->{approvals_required}};
	is $b->{status} eq 'approval_required' ? 1 : 0, @{$b->{approvals_required}} ? 1 : 0, "$name: waits when somebody is asked";
}

sub conversation_ok {
	my ($c, $name) = @_;
	_members_ok($c, $name,
	    id => $UUID, title => 'string', created_at => $TIME, updated_at => $TIME, turns => 'number',
	    state => qr/\A(?:idle|running|approval_required)\z/, live_turn => 'number|null', queued => 'number',
	    approvals_required => 'array') or return;
	approval_ok($_, "$name: a question") for @{$c->{approvals_required}};
}

# Section 6; more: members that the body must have besides (undef: must not have).
sub error_is {
	my ($r, $status, $code, $name, %more) = @_;
	my $j = $r->{json} // {};

	subtest $name => sub {
		is $r->{status}, $status, 'status' or diag $r->{body};
		like $r->{headers}{'content-type'} // '', qr{^application/json}, 'JSON';
		_members_ok($j, 'members', status => qr/^error$/, error => 'string', error_code => 'string',
		    message => 'string', request_id => 'string', 'field?' => 'string', 'conversation_id?' => $UUID,
		    'turn?' => 'number');
		is $j->{error_code}, $code, 'error_code';
		like $j->{message} // '', qr/\A\S.{8,}[.]\z/s, 'a sentence';
		is $j->{request_id}, $r->{headers}{'x-request-id'}, 'the request id of head and body';
		is $j->{$_}, $more{$_}, $_ for sort keys %more;
	};
}

sub _delta {
	my ($delta) = @_;
	return 'data ' . $JSON->encode({ choices => [{ index => 0, delta => $delta }] }) . "\n";
}

sub _finish {
	my ($reason) = @_;
	return 'data ' . $JSON->encode({ choices => [{ index => 0, delta => {}, finish_reason => $reason }] }) . "\n" .
	    'data ' . $JSON->encode({ choices => [], usage => { prompt_tokens => 7, completion_tokens => 3 } }) . "\n" .
	    "done\n";
}

# Pieces that are numbers are milliseconds to wait.
sub text_reply {
	return join('', map { /^\d+$/ ? "wait $_\n" : _delta({ content => $_ }) } @_) . _finish('stop');
}

my $calls = 0;

sub call_reply {
	my @out;
	for (my $i = 0; @_; $i++) {
		my ($tool, $parameters) = splice @_, 0, 2;
		push @out, _delta({ tool_calls => [{ index => $i, id => 'call_' . ++$calls, type => 'function',
		    function => { name => $tool, arguments => $TEXT->encode($parameters) } }] });
	}
	return join('', @out) . _finish('tool_calls');
}

1;
