package Parley::Soak::Client;

# One of the clients of the soak: a process that does one thing after another, as users do, at a pace of its own.
#
#	my $pid = Parley::Soak::Client::start($t, $number, rate => 1.2, until => $time, out => "$dir/client.3");
#	my $sum = Parley::Soak::Client::told("$dir/client.3");	# once it has ended
#
# What it tells: { done => { kind => n }, answers => { 'kind 200' => n }, bad => [ 'kind: what was not expected' ] }.

use strict;
use warnings;

use JSON::XS ();
use POSIX ();
use Time::HiRes qw(sleep time);

my ($true, $false) = (JSON::XS::true, JSON::XS::false);
my $JSON = JSON::XS->new->utf8->canonical;

# What is done, and how often of a hundred times.
my @KINDS = (
	[plain => 27], [stream => 17], [tool => 10], [talk => 8], [slow => 3], [follow => 3], [cancel => 2], [leave => 3],
	[retry => 3], [repeat => 4], [approve => 3], [list => 4], [read => 4], [mcp => 3], [refused => 3], [wrong => 2], [erase => 1],
);

my $USERS = 12;		# of each client
my $KEPT = 30;		# conversations that a client remembers
my $BAD_MAX = 50;	# what went wrong that is told in words

sub kinds { return map { $_->[0] } @KINDS }

sub start {
	my ($t, $number, %opt) = @_;
	my $pid = fork // die "fork: $!";

	return $pid if $pid;
	# What the parent has open is the parent's to close.
	$SIG{$_} = sub { POSIX::_exit(1) } for qw(INT TERM HUP);
	my $self = bless { t => $t, number => $number, %opt, done => {}, answers => {}, bad => [], n => 0, known => [] }, __PACKAGE__;
	srand $number;
	my $fine = eval { $self->_live; $self->_tell; 1 };
	print STDERR "client $number: $@" unless $fine;
	POSIX::_exit($fine ? 0 : 1);
}

sub told {
	my ($path) = @_;
	open my $fh, '<', $path or return undef;
	return $JSON->decode(do { local $/; <$fh> });
}

# Begins things at random moments that do not wait for answers of the one before, unless that takes long.
sub _live {
	my ($self) = @_;
	my $next = time + rand 1 / $self->{rate};

	while ($next < $self->{until}) {
		my $wait = $next - time;
		sleep $wait if $wait > 0;
		$next = time if $wait < -5;
		$self->_act;
		$next += -log(1 - rand) / $self->{rate};
	}
}

sub _act {
	my ($self) = @_;
	my $at = rand 100;
	my ($kind) = map { $_->[0] } grep { ($at -= $_->[1]) < 0 } @KINDS;
	my $do = $self->can("_do_$kind");

	$self->{kind} = $kind;
	$self->{user} = sprintf 'soak-%d-%d', $self->{number}, rand $USERS;
	$self->{n}++;
	$self->{done}{$kind}++;
	eval { $self->$do; 1 } or $self->_bad("died: $@");
}

sub _tell {
	my ($self) = @_;
	open my $fh, '>', $self->{out} or die "$self->{out}: $!";
	print $fh $JSON->encode({ map { $_ => $self->{$_} } qw(done answers bad) });
	close $fh or die "$self->{out}: $!";
}

sub _bad {
	my ($self, $what) = @_;
	push @{$self->{bad}}, substr "$self->{kind}: $what", 0, 400 if @{$self->{bad}} < $BAD_MAX;
	$self->{answers}{"$self->{kind} BAD"}++;
}

# Counts an answer by its code; one that is not among those expected is told.
sub _expect {
	my ($self, $r, @want) = @_;
	my $code = $r->{json}{error_code} // (($r->{json}{status} // '') =~ /^(?:error|failed)$/ ? 'failed' : '');

	$self->{answers}{"$self->{kind} $r->{status}" . ($code eq '' ? '' : " $code")}++;
	return 1 if grep { $_ eq ($code eq '' ? $r->{status} : "$r->{status} $code") } @want;
	$self->_bad("$r->{status} " . ($r->{body} // ''));
	return 0;
}

sub _request {
	my ($self, $method, $path, $body, %opt) = @_;
	return $self->{t}->begin($method, $path, $body, user => $self->{user}, %opt);
}

sub _chat {
	my ($self, $message, %fields) = @_;
	my $key = delete $fields{key};
	return $self->_request('POST', '/api/chat', { message => $message, %fields },
	    defined $key ? (headers => { 'Idempotency-Key' => $key }) : ());
}

# A conversation of this client's, often one that is there.
sub _some {
	my ($self) = @_;
	my @mine = grep { $_->[0] eq $self->{user} } @{$self->{known}};

	return @mine && rand() < 0.7 ? (conversation_id => $mine[rand @mine][1]) : ();
}

sub _know {
	my ($self, $j) = @_;
	my $id = ($j // {})->{conversation_id} // return;

	return if grep { $_->[1] eq $id } @{$self->{known}};
	push @{$self->{known}}, [$self->{user}, $id];
	shift @{$self->{known}} if @{$self->{known}} > $KEPT;
}

# A stream to its end; its last event must be one of those, and its deltas the response.
sub _read_stream {
	my ($self, $c, @want) = @_;
	my ($last, $text) = (undef, '');

	$self->{answers}{"$self->{kind} " . $c->head->{status}}++;
	return $self->_bad('stream: ' . $c->head->{status} . ' ' . ($c->response->{body} // '')) if $c->head->{status} != 200;
	while (my $e = $c->event) {
		$last = $e;
		$text = '' if $e->{event} =~ /^(?:reset|tool_result)$/;
		$text .= $e->{data}{text} if $e->{event} eq 'delta';
	}
	my $end = $last ? $last->{event} eq 'done' ? $last->{data}{status} : $last->{event} : 'nothing';
	$self->{answers}{"$self->{kind} stream $end"}++;
	return $self->_bad("stream ended with $end " . ($last->{text} // '')) unless grep { $_ eq $end } @want;
	$self->_bad("deltas are not the response: $text") if $end eq 'success' && $text ne $last->{data}{response};
	return $last->{data};
}

# The `turn` event of a stream: conversation and number.
sub _begun {
	my ($self, $c) = @_;

	while (my $e = $c->event) {
		return @{$e->{data}}{qw(conversation_id turn)} if $e->{event} eq 'turn';
	}
	$self->_bad('a stream without turn: ' . $c->head->{status});
	return;
}

sub _do_plain {
	my ($self) = @_;
	my $r = $self->_chat("bench $self->{n} please", $self->_some)->response;
	$self->_know($r->{json}) if $self->_expect($r, 200);
}

sub _do_stream {
	my ($self) = @_;
	my $d = $self->_read_stream($self->_chat("bench $self->{n} streamed", $self->_some, stream => $true), 'success');
	$self->_know($d) if ref $d;
}

sub _do_tool {
	my ($self) = @_;
	my @say = ('bench:tool', "add task: number $self->{n}", 'show my tasks', 'bench:call list_tasks {"status":"pending"}');
	my $stream = rand() < 0.5;
	my $c = $self->_chat($say[rand @say], $stream ? (stream => $true) : ());

	$stream ? $self->_read_stream($c, 'success') : $self->_expect($c->response, 200);
}

sub _do_talk {
	my ($self) = @_;
	my $r = $self->_chat("hello, this is number $self->{n}", time_zone => 'Europe/Oslo', return => 'conversation')->response;
	$self->_know($r->{json}) if $self->_expect($r, 200);
}

sub _do_slow {
	my ($self) = @_;
	my $c = $self->_chat("script:slow $self->{n}", rand() < 0.5 ? (stream => $true) : ());
	($c->head->{headers}{'content-type'} // '') =~ /event-stream/ ? $self->_read_stream($c, 'success')
	    : $self->_expect($c->response, 200);
}

# Two who read the same turn: who asked, and one that attaches to it.
sub _do_follow {
	my ($self) = @_;
	my $c = $self->_chat("script:slow $self->{n}", stream => $true);
	my ($id, $n) = $self->_begun($c) or return;
	my $f = $self->_request('GET', "/api/conversations/$id/turns/$n/events");
	my $e = $f->event;

	# One of them comes back in the middle.
	if ($e && rand() < 0.5) {
		$f->close;
		$f = $self->_request('GET', "/api/conversations/$id/turns/$n/events", undef, headers => { 'Last-Event-ID' => $e->{id} });
	}
	my $end;
	while ($e = $f->event) {
		$end = $e;
	}
	$self->_bad('the follower saw ' . ($end ? $end->{text} : 'nothing')) unless $end && ($end->{data}{status} // '') eq 'success';
	$self->_expect($self->_request('GET', "/api/conversations/$id/turns/$n?wait=10")->response, 200);
	1 while $c->event;
}

sub _do_cancel {
	my ($self) = @_;
	my $c = $self->_chat("script:long $self->{n}", stream => $true);
	my ($id, $n) = $self->_begun($c) or return;

	sleep rand 0.5;
	$self->_expect($self->_request('POST', "/api/conversations/$id/turns/$n/cancel", undef,
	    headers => { 'Content-Length' => 0 })->response, 202);
	$self->_read_stream($c, 'cancelled');
}

# Goes away in the middle; the turn ends all the same.
sub _do_leave {
	my ($self) = @_;
	my $stream = rand() < 0.7;
	my $c = $self->_chat("script:slow $self->{n}", $stream ? (stream => $true) : ());

	if ($stream) {
		$c->event for 0 .. rand 3;
	} else {
		sleep rand 0.3;
	}
	$c->close;
}

sub _do_retry {
	my ($self) = @_;
	my $r = $self->_chat("bench $self->{n} twice")->response;
	return unless $self->_expect($r, 200);
	my ($id, $n) = @{$r->{json}}{qw(conversation_id turn)};
	my $again = $self->_request('POST', "/api/conversations/$id/turns/$n/retry", { stream => $false })->response;

	$self->_bad("retry is of turn $again->{json}{turn}, not $n") if $self->_expect($again, 200) && $again->{json}{turn} != $n;
}

sub _do_repeat {
	my ($self) = @_;
	my $key = "key-$self->{number}-$self->{n}";
	my @r = map { $self->_chat("bench $self->{n} once", key => $key) } 1 .. 2;
	my @at;

	for (map { $_->response } @r, $self->_chat("bench $self->{n} once", key => $key)) {
		$self->_expect($_, 200) or return;
		push @at, "$_->{json}{conversation_id} $_->{json}{turn}";
	}
	$self->_bad("one key, several turns: @at") if grep { $_ ne $at[0] } @at;
	$self->_expect($self->_chat('another text', key => $key)->response, '422 idempotency_mismatch');
}

sub _do_approve {
	my ($self) = @_;
	return unless $self->_expect($self->_chat("add task: to go $self->{n}")->response, 200);
	my $tasks = $self->{t}->chat($self->{user}, 'bench:tool')->{json}{tool_calls}[0]{result}{tasks};
	my ($task) = grep { $_->{title} =~ /to go/ } @{ref $tasks eq 'ARRAY' ? $tasks : []};
	return $self->_bad('no task to delete') unless $task;
	my $id = $task->{task_id} // $task->{id};
	my $r = $self->_chat("bench:call delete_task {\"task_id\":$id}")->response;
	return unless $self->_expect($r, 200);
	my ($call) = @{$r->{json}{approvals_required}} or return $self->_bad("not asked: $r->{body}");
	my $yes = rand() < 0.7 ? $true : $false;
	my $end = $self->_request('POST', '/api/chat', { conversation_id => $r->{json}{conversation_id},
	    approvals => { $call->{id} => $yes }, stream => rand() < 0.5 ? $true : $false });

	($end->head->{headers}{'content-type'} // '') =~ /event-stream/ ? $self->_read_stream($end, 'success')
	    : $self->_expect($end->response, 200);
}

sub _do_list {
	my ($self) = @_;
	my $r = $self->_request('GET', '/api/conversations?limit=10')->response;
	return unless $self->_expect($r, 200);
	my $cursor = $r->{json}{next_cursor} // return;
	$self->_expect($self->_request('GET', "/api/conversations?limit=10&cursor=$cursor")->response, 200);
}

sub _do_read {
	my ($self) = @_;
	my %some = $self->_some or return $self->_do_list;
	my $path = "/api/conversations/$some{conversation_id}";

	$self->_expect($self->_request('GET', "$path?limit=50")->response, 200);
	$self->_expect($self->_request('PATCH', $path, { title => "Title $self->{n}" })->response, 200);
}

sub _do_mcp {
	my ($self) = @_;

	for (['tools/list', {}], ['tools/call', { name => 'add_task', arguments => { title => "By MCP $self->{n}" } }]) {
		my ($method, $params) = @$_;
		my $r = $self->_request('POST', '/mcp', { jsonrpc => '2.0', id => $self->{n}, method => $method, params => $params },
		    headers => { Accept => 'application/json, text/event-stream', 'MCP-Protocol-Version' => '2025-06-18' })->response;
		$self->_bad("$method: $r->{body}") if $self->_expect($r, 200) && (!$r->{json}{result} || $r->{json}{result}{isError});
	}
}

sub _do_refused {
	my ($self) = @_;
	my $t = $self->{t};

	$self->_expect($self->_request('POST', '/api/chat', { message => 'x' }, token => undef)->response, '401 missing_token');
	$self->_expect($self->_request('POST', '/api/chat', { message => 'x' }, token => 'no.such.token')->response, '401 invalid_token');
	$self->_expect($self->_request('GET', '/api/conversations', undef,
	    token => $t->token($self->{user}, exp => time - 600))->response, '401 token_expired');
}

sub _do_wrong {
	my ($self) = @_;

	$self->_expect($self->_chat('   ')->response, '422 validation_error');
	$self->_expect($self->_chat('x' x 2001)->response, '422 validation_error');
	$self->_expect($self->_request('POST', '/api/chat', '{"message":')->response, '400 invalid_json');
	$self->_expect($self->_request('GET', '/api/conversations/00000000-0000-4000-8000-000000000000')->response,
	    '404 conversation_not_found');
}

sub _do_erase {
	my ($self) = @_;
	my ($at) = grep { $self->{known}[$_][0] eq $self->{user} } 0 .. $#{$self->{known}};
	return $self->_do_list unless defined $at;
	my $gone = splice @{$self->{known}}, $at, 1;

	$self->_expect($self->_request('DELETE', "/api/conversations/$gone->[1]")->response, 204);
	$self->_expect($self->_request('GET', "/api/conversations/$gone->[1]")->response, '404 conversation_not_found');
}

1;
