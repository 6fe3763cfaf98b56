# The demo model on the wire: forms, streams, delays, scripts, many at once.
use strict;
use warnings;
use lib 't/lib';
use HTTP::Tiny;
use IO::Select;
use IO::Socket::INET;
use JSON::XS;
use Parley::Model;
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Test::More;
use Time::HiRes qw(sleep time);

my %scripts = (
	twice   => "# a comment\n\nstatus 429\nheader Retry-After: 2\nheader Content-Type: application/json\n" .
	    qq(raw {"error":{"message":"slow down"}}\n---\ndata {"n":2}\ndone\n),
	bytes   => 'raw a\n\r\t\\\\\x01\u00e9' . "\n",
	drip    => 'drip 10 data: abcdefghij\n\n' . "\ndone\n",
	repeat  => "repeat 3 data {}\ndone\n",
	late    => "wait 300\ndata {}\ndone\n",
	cut     => "data {}\ncut\n",
	reset   => "data {}\nwait 100\nreset\n",
	hang    => "data {}\nhang\n",
	mute    => "hang\n",
	garbage => 'garbage SMTP ready\r\n' . "\n",
	short   => "header Content-Length: 100\nraw only this\ncut\n",
	bare    => "status 204\nheader Content-Type: text/plain\n",
	wrong   => "data {}\nfrobnicate\n",
	flood   => "repeat 200000 data {\"x\":\"0123456789\"}\ndone\n",
);
my $model = Parley::Model->new(scripts => \%scripts);
my $slow  = Parley::Model->new(delay => 400, pieces => 4);
my $http  = HTTP::Tiny->new(timeout => 20, keep_alive => 0);

sub body {
	my ($text, %o) = @_;
	return encode_json({ model => 'demo', messages => [{ role => 'user', content => $text }], %o });
}

sub ask {
	my ($m, @rest) = @_;
	return $http->post($m->url . '/chat/completions', { content => body(@rest) });
}

# A connection of our own, for what a client library hides.
sub dial {
	my ($m) = @_;
	my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $m->port) or die "connect: $!";
	setsockopt $s, IPPROTO_TCP, TCP_NODELAY, 1;
	return $s;
}

sub post_text {
	my ($content, @headers) = @_;
	return join("\r\n", 'POST /v1/chat/completions HTTP/1.1', 'Host: x', @headers,
	    'Content-Length: ' . length $content, '', $content);
}

# Reads until the pattern has come, the end, or five seconds.
sub read_until {
	my ($s, $pattern) = @_;
	my ($in, $sel, $end) = ('', IO::Select->new($s), time + 5);

	while ($in !~ $pattern && time < $end) {
		next unless $sel->can_read(0.2);
		my $n = sysread $s, $in, 65536, length $in;
		return wantarray ? ($in, defined $n ? 'end' : 'error') : $in unless $n;
	}
	return wantarray ? ($in, 'open') : $in;
}

sub events { return map { $_ eq '[DONE]' ? $_ : decode_json($_) } $_[0] =~ /^data: (.*)$/mg }

subtest 'one object' => sub {
	my $r = ask($model, 'bench');
	is $r->{status}, 200, 'answered';
	is $r->{headers}{'content-type'}, 'application/json', 'JSON';
	my $j = decode_json($r->{content});
	is $j->{object}, 'chat.completion', 'object';
	is $j->{model}, 'demo', 'the model that was asked for';
	like $j->{id}, qr/^chatcmpl-/, 'an id';
	my $c = $j->{choices}[0];
	is $c->{finish_reason}, 'stop', 'finish_reason';
	is $c->{message}{role}, 'assistant', 'role';
	like $c->{message}{content}, qr/^ok\b.{180,220}$/s, 'about two hundred bytes';
	ok $j->{usage}{prompt_tokens} > 0 && $j->{usage}{completion_tokens} > 0, 'usage';

	my @tools = (tools => [{ type => 'function', function => { name => 'list_tasks' } }]);
	$j = decode_json(ask($model, 'bench:tool', @tools)->{content});
	my $call = $j->{choices}[0]{message}{tool_calls}[0];
	is $call->{function}{name}, 'list_tasks', 'bench:tool calls';
	is $j->{choices}[0]{finish_reason}, 'tool_calls', '... and says so';
	ok !defined $j->{choices}[0]{message}{content}, '... without words';
	my @said = ({ role => 'user', content => 'bench:tool' }, $j->{choices}[0]{message},
	    { role => 'tool', tool_call_id => $call->{id}, content => '{"tasks":[]}' });
	$j = decode_json(ask($model, '', @tools, messages => \@said)->{content});
	is $j->{choices}[0]{message}{content}, 'ok', '... once';
	$j = decode_json(ask($model, 'bench:call add_task {"title":"x","user_id":"eve"}')->{content});
	is_deeply $j->{choices}[0]{message}{tool_calls}[0]{function},
	    { name => 'add_task', arguments => '{"title":"x","user_id":"eve"}' }, 'bench:call passes anything on';
};

subtest 'a stream' => sub {
	my $r = ask($model, 'bench', stream => \1, stream_options => { include_usage => \1 });
	like $r->{headers}{'content-type'}, qr{^text/event-stream}, 'event stream';
	my @e = events($r->{content});
	is pop @e, '[DONE]', 'the end';
	my $usage = pop @e;
	is_deeply $usage->{choices}, [], 'usage has no choices';
	ok $usage->{usage}{total_tokens} > 0, '... and numbers';
	is $e[-1]{choices}[0]{finish_reason}, 'stop', 'finish_reason';
	is $e[0]{choices}[0]{delta}{role}, 'assistant', 'the role first';
	is scalar(grep { length($_->{choices}[0]{delta}{content} // '') } @e), 4, 'four pieces';
	like join('', map { $_->{choices}[0]{delta}{content} // '' } @e), qr/^ok\b.{180,220}$/s, 'the text';
	is scalar(grep { exists $_->{usage} && !defined $_->{usage} } @e), scalar @e, 'usage: null elsewhere';
	unlike ask($model, 'bench', stream => \1)->{content}, qr/usage/, 'no usage unasked';

	@e = events(ask($model, 'show my tasks', stream => \1,
	    tools => [{ type => 'function', function => { name => 'list_tasks' } }])->{content});
	pop @e;
	my @d = map { @{ $_->{choices}[0]{delta}{tool_calls} // [] } } @e;
	is scalar @d, 3, 'a call in three deltas';
	like $d[0]{id}, qr/./, 'the id in the first';
	is $d[0]{function}{name}, 'list_tasks', '... and the name';
	ok !exists $d[1]{id} && !exists $d[2]{id}, '... not in the others';
	is join('', map { $_->{function}{arguments} } @d), '{"status":"all"}', 'arguments in fragments';
	is $e[-1]{choices}[0]{finish_reason}, 'tool_calls', 'finish_reason';

	@e = events(ask($model, 'my name is ' . "\x{540d}" x 40, stream => \1)->{content});
	pop @e;
	like join('', map { $_->{choices}[0]{delta}{content} // '' } @e), qr/\x{540d}{40}/, 'no piece ends inside a character';
};

subtest 'delays' => sub {
	my ($t, $s) = (time, dial($slow));
	print $s post_text(body('bench', stream => \1));
	my $first = read_until($s, qr/"ok/) && time - $t;
	read_until($s, qr/DONE/);
	my $all = time - $t;
	ok $first > 0.09 && $first < 0.3, sprintf 'the first piece after a quarter (%.3f s)', $first;
	ok $all > 0.39 && $all < 0.8, sprintf 'all of it after the delay (%.3f s)', $all;
	$t = time;
	ask($slow, 'bench');
	ok time - $t > 0.39, 'JSON waits as long';
};

subtest 'scripts' => sub {
	$model->clear;
	my $r = ask($model, 'script:twice please');
	is $r->{status}, 429, 'status';
	is $r->{headers}{'retry-after'}, 2, 'header';
	is $r->{headers}{'content-length'}, length $r->{content}, 'a JSON body is sent whole';
	is decode_json($r->{content})->{error}{message}, 'slow down', 'raw';
	for (1, 2) {
		$r = ask($model, 'x', model => 'script:twice');
		is $r->{content}, qq(data: {"n":2}\n\ndata: [DONE]\n\n), 'the second reply, then again; chosen by the model';
	}
	is ask($model, 'script:bytes')->{content}, "a\n\r\t\\\x01\xc3\xa9", 'escapes';
	my $t = time;
	is ask($model, 'script:drip')->{content}, "data: abcdefghij\n\ndata: [DONE]\n\n", 'drip';
	ok time - $t > 0.15, '... takes its time';
	is ask($model, 'script:repeat')->{content}, "data: {}\n\n" x 3 . "data: [DONE]\n\n", 'repeat';
	$t = time;
	is ask($model, 'script:late')->{status}, 200, 'late';
	ok time - $t > 0.29, '... is late';
	is ask($model, 'script:bare')->{status}, 204, 'no body';
	$r = ask($model, 'script:wrong');
	like $r->{content}, qr/wrong\.script:2: no such verb/, 'a mistake in a script is named';
	like ask($model, 'script:../../etc/passwd')->{content}, qr/offline demo/, 'no way out of the folder';
	is ask($model, 'script:none')->{status}, 404, 'no such script';
	is length(ask($model, 'script:flood')->{content}), 200000 * 26 + 14, 'a flood';

	my @q = $model->requests;
	is $q[0]{script}, 'twice', 'the journal names the script';
	is $q[0]{body}{messages}[0]{content}, 'script:twice please', '... has the body';
	is $q[0]{headers}{host}, '127.0.0.1:' . $model->port, '... and the headers';
	ok !$q[0]{closed_early}, '... nobody left early';
	ok $q[1]{t_ms} >= $q[0]{t_ms} && abs($q[0]{t_ms} / 1000 - time) < 60, '... and the time';
	$model->clear;
	is scalar(my @none = $model->requests), 0, 'cleared';
	is ask($model, 'script:twice')->{status}, 429, '... and the first reply again';
};

subtest 'faults' => sub {
	$model->clear;
	my $say = sub {
		my $s = dial($model);
		print $s post_text(body("script:$_[0]"));
		return $s;
	};
	my ($in, $how) = read_until($say->('cut'), qr/never/);
	like $in, qr/data: \{\}\n\n\r\n$/, 'cut: something';
	is $how, 'end', '... then the end, without the last chunk';
	($in, $how) = read_until($say->('reset'), qr/never/);
	like $in, qr/data: \{\}/, 'reset: something';
	is $how, 'error', '... then a reset';
	($in, $how) = read_until($say->('garbage'), qr/never/);
	is $in, "SMTP ready\r\n", 'garbage in place of a head';
	($in, $how) = read_until($say->('short'), qr/never/);
	like $in, qr/Content-Length: 100\r\n.*\r\n\r\nonly this$/s, 'short: less than announced';
	my $s = $say->('hang');
	like read_until($s, qr/\{\}/), qr/data: \{\}/, 'hang: something';
	ok !IO::Select->new($s)->can_read(0.3), '... then nothing';
	close $s;
	$s = $say->('mute');
	ok !IO::Select->new($s)->can_read(0.3), 'mute: nothing at all';
	close $s;
	my @q;
	for (1 .. 100) {
		@q = $model->requests;
		last if $q[-1]{closed_early};
		sleep 0.02;
	}
	is join(' ', map { "$_->{script}:" . ($_->{closed_early} ? 1 : 0) } @q),
	    'cut:0 reset:0 garbage:0 short:0 hang:1 mute:1', 'who left whom';
};

subtest 'HTTP' => sub {
	is $http->get($model->url . '/models')->{status}, 200, 'models';
	is decode_json($http->get($model->url . '/models')->{content})->{data}[0]{id}, 'parley-demo', '... has one';
	is $http->get($model->root . '/nothing')->{status}, 404, 'no such path';
	is $http->get($model->url . '/chat/completions')->{status}, 405, 'wrong method';
	is $http->get($slow->root . '/_requests')->{status}, 404, 'no journal without scripts';
	for my $bad ('{', '[]', '{}', '{"messages":{}}', '{"messages":[]}', '{"messages":[{"role":"king","content":"x"}]}',
	    '{"messages":[{"role":"user","content":"x"}]} x', "{\"messages\":\"\xff\"}",
	    '{"messages":[{"role":"user","content":"x"},{"role":"tool","tool_call_id":"a","content":"{}"}]}',
	    '{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}]}',
	    '{"messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{"}}]},{"role":"tool","tool_call_id":"a","content":""}]}') {
		my $r = $http->post($model->url . '/chat/completions', { content => $bad });
		is $r->{status}, 400, "400 for $bad";
		like decode_json($r->{content})->{error}{message}, qr/\w/, '... with a reason';
	}

	my $s = dial($model);
	print $s post_text(body('bench')) x 3;
	my $in = read_until($s, qr/(usage.*){3}\}\}/s);
	is scalar(() = $in =~ m{HTTP/1\.1 200}g), 3, 'three requests sent ahead on one connection';
	my $b = body('bench');
	print $s "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
	for my $part (unpack '(a20)*', $b) {
		printf $s "%x\r\n%s\r\n", length $part, $part;
		$s->flush;
		sleep 0.001;
	}
	print $s "0\r\n\r\n";
	like read_until($s, qr/usage.*\}\}/s), qr{^HTTP/1\.1 200}, 'a chunked request, in pieces';
	print $s "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: " . length($b) . "\r\n\r\n";
	like read_until($s, qr/\r\n\r\n/), qr{^HTTP/1\.1 100}, '100 Continue';
	print $s $b;
	like read_until($s, qr/usage.*\}\}/s), qr{^HTTP/1\.1 200}, '... and the answer';
	print $s post_text($b, 'Connection: close');
	my ($all, $how) = read_until($s, qr/never/);
	is $how, 'end', 'Connection: close';

	for my $bad ("GET\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
	    "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 'x' x 40000,
	    "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n") {
		$s = dial($model);
		print $s $bad;
		($all, $how) = read_until($s, qr/never/);
		like $all, qr{^HTTP/1\.1 4\d\d }, 'refused: ' . substr($bad, 0, 60) =~ s/\r\n/ /gr;
		is $how, 'end', '... and closed';
	}
};

# Bounded by what this process may open; each of them is a stream of 400 ms.
subtest 'many streams at once' => sub {
	my $n = 2000;
	my $limit = `sh -c 'ulimit -n'`;
	$n = $limit - 100 if $limit =~ /^\d+$/ && $limit < $n + 100;
	my $text = post_text(body('bench', stream => \1), 'Connection: close');
	my ($t, %in, @s) = (time);
	for (1 .. $n) {
		my $s = dial($slow);
		syswrite $s, $text;
		push @s, $s;
	}
	my $open = time - $t;
	my $sel = IO::Select->new(@s);
	my $end = time + 30;
	while ($sel->count && time < $end) {
		for my $s ($sel->can_read(1)) {
			next if sysread $s, $in{$s}, 65536, length($in{$s} // '');
			$sel->remove($s);
			close $s;
		}
	}
	is scalar(grep { /DONE/ } values %in), $n, sprintf '%d streams, opened in %.2f s, done after %.2f s', $n, $open, time - $t;
};

subtest 'the program' => sub {
	my $p = Parley::Model::_program();
	like scalar(`$p --help`), qr/^Usage: parley-demo-model/, '--help';
	like scalar(`$p --version`), qr/^parley-demo-model \d/, '--version';
	for my $o ('--pieces 0', '--delay x', 'what', '--nothing', '--listen nowhere.example:1') {
		my $out = `$p $o 2>&1`;
		isnt $?, 0, "$o is refused";
		like $out, qr/\w/, '... with a word on it';
	}
	is $slow->stop, 0, 'SIGTERM ends it cleanly';
	is $model->stop, 0, '... also with connections that hung';
};

done_testing;
