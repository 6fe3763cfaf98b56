# W3C Trace Context: what comes with a request goes on to models and MCP servers, whichever worker asks them, and into the log.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::McpServer;
use Parley::Test;
use Parley::Turns;

my $SPAN = '00f067aa0ba902b7';
my $made = 0;
my $model = Parley::Model->new(scripts => {
	two => join("---\n", call_reply('new_echo' => { text => 'a' }, 'nov_echo' => { text => 'b' }), text_reply('Done.')),
	dies => join("---\n", "hang\n", text_reply('Here I am.')),
	slow => text_reply('A slow ', 1500, 'one.'),
});
my %server = (new => Parley::McpServer->new, nov => Parley::McpServer->new(version => '2025-11-25', sessions => 1));
my %conf = ('turn.lease' => '3s', 'model.retries' => 0, 'log.level' => 'info',
    map { ("mcp.$_.url" => $server{$_}->url, "mcp.$_.tools" => 'echo') } keys %server);
my $t = Parley::Test->new(model => $model, workers => 1, conf => \%conf);
my $other = beside($t, conf => \%conf);

sub trace_id { return sprintf '%032x', ++$made }

# A turn that comes with these headers; traceparent may be the trace-id alone.
sub ask {
	my ($message, %headers) = @_;
	$headers{traceparent} = "00-$headers{traceparent}-$SPAN-01" if ($headers{traceparent} // '') =~ /^[0-9a-f]{32}$/;
	my $r = $t->begin('POST', '/api/chat', { message => $message }, user => 'ann', headers => \%headers)->response;
	is $r->{status}, 200, 'the turn is done' or diag $r->{body};
	return $r;
}

# What the model was sent last: traceparent and tracestate.
sub sent {
	my ($last) = reverse $model->requests;
	my %h = map { lc $_ => $last->{headers}{$_} } keys %{$last->{headers}};
	return @h{qw(traceparent tracestate)};
}
sub good { my ($id, $flags) = @_; return qr/\A00-$id-(?!$SPAN|0{16})[0-9a-f]{16}-${\($flags \/\/ '01')}\z/ }

subtest 'to the model' => sub {
	my $id = trace_id();
	ask('Hello', traceparent => $id, tracestate => 'rojo=1,congo=t61rcWkgMzE');
	my ($parent, $state) = sent();
	like $parent, good($id), 'the same trace, a span of our own';
	is $state, 'rojo=1,congo=t61rcWkgMzE', 'its state as it came';
	my @lines = grep { ($_->{trace} // '') eq $id } $t->log;
	is_deeply [sort map { $_->{event} } @lines], [qw(request turn)], 'both lines of the log name it';
	is $t->pg->one('SELECT trace FROM parley.turns WHERE trace LIKE ?', "00-$id%"), "00-$id-$SPAN-01 rojo=1,congo=t61rcWkgMzE",
	    'the turn keeps it';

	ask('Hello', traceparent => "00-$id-$SPAN-00");
	($parent, $state) = sent();
	like $parent, good($id, '00'), 'one that is not sampled stays so';
	is $state, undef, 'and no state is made up';
	ask('Hello', traceparent => "cc-$id-$SPAN-01-of-the-future");
	like +(sent())[0], good($id), 'a later version is read as far as it is known';
	ask('Hello', traceparent => $id, tracestate => 'not good');
	is_deeply [(sent())[1]], [undef], 'a bad state is left out';
	like +(sent())[0], good($id), '... but the trace goes on';
};

subtest 'none, or no good one' => sub {
	for my $bad (undef, '', '00-' . '0' x 32 . "-$SPAN-01", '00-' . trace_id() . '-0000000000000000-01', 'ff-' . trace_id() . "-$SPAN-01",
	    '00-' . trace_id() . "-$SPAN-01-more", uc('00-' . 'a' x 32 . "-$SPAN-01"), 'nonsense', '00-' . trace_id() . "-$SPAN") {
		ask('Hello', defined $bad ? (traceparent => $bad) : (), tracestate => 'a=1');
		is_deeply [sent()], [undef, undef], 'sends none: ' . ($bad // 'no header');
	}
	my ($last) = reverse grep { $_->{event} eq 'turn' } $t->log;
	ok !exists $last->{trace}, 'and the log names none';
};

subtest 'to MCP servers' => sub {
	$_->forget for values %server;
	my $id = trace_id();
	my $r = ask('script:two', traceparent => $id, tracestate => 'k=v');
	is scalar(@{$r->{json}{tool_calls}}), 2, 'two calls';
	my %spans;
	for my $name (sort keys %server) {
		my ($call) = grep { $_->{method} eq 'tools/call' } $server{$name}->requests;
		my %h = map { lc $_ => $call->{headers}{$_} } keys %{$call->{headers}};
		like $h{traceparent}, good($id), "$name: the header";
		is $h{tracestate}, 'k=v', "$name: ... and its state";
		$spans{$h{traceparent}}++;
		my $meta = $call->{body}{params}{_meta};
		is $meta->{traceparent}, $name eq 'new' ? $h{traceparent} : undef, "$name: in _meta where the revision has it";
		is $meta->{tracestate}, $name eq 'new' ? 'k=v' : undef, "$name: ... as well";
	}
	is scalar(keys %spans), 2, 'each call is a span of its own';
	is_deeply [map { $_->faults } values %server], [], 'the servers have nothing to say against it';
	my ($list) = grep { $_->{method} eq 'tools/list' } $server{new}->requests;
	ok !$list || !grep { lc eq 'traceparent' } keys %{$list->{headers}}, 'lists, which are for all users, belong to no trace';
};

subtest 'survives its worker' => sub {
	my $id = trace_id();
	my $c = $t->begin('POST', '/api/chat', { message => 'script:dies' }, user => 'bob',
	    headers => { traceparent => "00-$id-$SPAN-01", tracestate => 'k=v' });
	wait_for { return scalar grep { ($_->{script} // '') eq 'dies' } $model->requests } 10;
	$t->kill_worker;
	$c->response;
	wait_for { return $t->pg->one(q{SELECT state FROM parley.turns WHERE user_id = 'bob'}) eq 'done' } 20;
	my ($first, $second) = map { { map { lc } %{$_->{headers}} } } grep { ($_->{script} // '') eq 'dies' } $model->requests;
	like $second->{traceparent}, good($id), 'whoever takes it over goes on with the trace';
	is $second->{tracestate}, 'k=v', '... and its state';
	isnt $second->{traceparent}, $first->{traceparent}, '... in another span';

	# In a queue: each has its own.
	$t->ready;
	$model->clear;
	my ($slow, $conversation) = begun($t, 'cat', 'script:slow');
	my $queued = trace_id();
	$c = $t->begin('POST', '/api/chat', { message => 'Hello', conversation_id => $conversation }, user => 'cat',
	    headers => { traceparent => "00-$queued-$SPAN-01" });
	is $_->response->{status}, 200, 'done' for $slow, $c;
	my @all = map { { map { lc } %{$_->{headers}} } } $model->requests;
	is $all[0]{traceparent}, undef, 'the one before it came without';
	like $all[1]{traceparent}, good($queued), 'the queued one has its own';

	# A retry belongs to the request that asks for it.
	my $again = trace_id();
	my $r = $t->begin('POST', "/api/conversations/$conversation/turns/2/retry", undef, user => 'cat',
	    headers => { traceparent => "00-$again-$SPAN-01", 'Content-Length' => 0 })->response;
	is $r->{status}, 200, 'asked again';
	like +(sent())[0], good($again), '... for whoever asks now';
};

done_testing;
