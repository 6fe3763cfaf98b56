package Parley::McpServer;

# An MCP server of the tests' own: all four revisions, and every misbehaviour that somebody has thought of.
#
#	my $s = Parley::McpServer->new(version => '2025-06-18', sessions => 1, answer => 'sse');
#	$s->url; $s->set(version => '2026-07-28'); $s->stop; $s->start;
#	$s->requests;		# what came, oldest first: { method, http, headers, body }
#	$s->effects;		# the arguments of each call of `act`, which changes the world
#	$s->faults;		# what the client did against the specification
#	$s->lose_sessions;
#
# Settings (set() changes them while it runs):
#	version		the revision spoken (2026-07-28)
#	sessions	the old eras: ids are given and wanted
#	lost		the HTTP status of a session that is not known (404)
#	answer		json or sse
#	page		tools on a page of the list (all)
#	tools		the list itself, instead of the usual one
#	list		a misbehaviour for tools/list: its name, as for tools below
#	vague		what is not known is answered with {}, as some of the old eras do
#	unnamed		the new era: server/discover names no revisions
#	want		a header and its value that must be there, as a hash
#
# Each connection has a process of its own; what they share are files.

use strict;
use warnings;

use Fcntl qw(:flock);
use File::Path ();
use IO::Socket::INET;
use JSON::XS ();
use POSIX ();
use Time::HiRes qw(sleep);

use Parley::Process;

my $JSON = JSON::XS->new->utf8->canonical->allow_nonref;
my $MODERN = '2026-07-28';

sub new {
	my ($class, %set) = @_;
	my $self = bless { dir => Parley::Process::tempdir(), owner_pid => $$, port => 0 }, $class;

	mkdir "$self->{dir}/sessions";
	$self->{set} = { version => $MODERN, sessions => 0, lost => 404, answer => 'json' };
	$self->set(%set);
	$self->start;
	return $self;
}

sub url { "http://127.0.0.1:$_[0]{port}/mcp" }

sub set {
	my ($self, %set) = @_;
	%{$self->{set}} = (%{$self->{set}}, %set);
	_put("$self->{dir}/set", $JSON->encode($self->{set}));
}

sub start {
	my ($self) = @_;
	my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Listen => 128, ReuseAddr => 1)
	    or die "listen: $!";
	$self->{port} = $sock->sockport;
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		setpgrp;
		eval { $self->_serve($sock) };
		print STDERR $@ if $@;
		POSIX::_exit(0);
	}
	$self->{pid} = $pid;
}

sub stop {
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	# The group is the server and its connections.
	kill 'KILL', -$pid;
	kill 'KILL', $pid;
	waitpid $pid, 0;
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!, $@);
	$self->stop;
	File::Path::remove_tree($self->{dir});
}

sub requests { return map { $JSON->decode($_) } $_[0]->_lines('requests') }
sub effects { return map { $JSON->decode($_) } $_[0]->_lines('effects') }
sub faults { return $_[0]->_lines('faults') }
sub lose_sessions { unlink glob "$_[0]{dir}/sessions/*" }
sub sessions { return map { s{.*/}{}r } glob "$_[0]{dir}/sessions/*" }
sub forget { unlink "$_[0]{dir}/requests" }

# The methods that came, in their order.
sub methods { return map { $_->{method} } $_[0]->requests }

sub _lines {
	my ($self, $name) = @_;
	open my $fh, '<', "$self->{dir}/$name" or return;
	chomp(my @lines = <$fh>);
	return @lines;
}

sub _put {
	my ($path, $text) = @_;
	open my $fh, '>', "$path.$$" or die "$path: $!";
	print $fh $text;
	close $fh;
	rename "$path.$$", $path or die "$path: $!";
}

sub _note {
	my ($self, $name, $line) = @_;
	open my $fh, '>>', "$self->{dir}/$name" or die "$name: $!";
	flock $fh, LOCK_EX;
	syswrite $fh, "$line\n";
	close $fh;
}

# -- in the server --

sub _serve {
	my ($self, $sock) = @_;
	local $SIG{CHLD} = 'IGNORE';
	local $SIG{PIPE} = 'IGNORE';
	my $parent = $self->{owner_pid};

	while (1) {
		# The test may be killed: then nobody would stop this.
		my $r = '';
		vec($r, fileno $sock, 1) = 1;
		select($r, undef, undef, 1) > 0 or do { kill(0, $parent) ? next : last };
		my $c = $sock->accept or next;
		my $pid = fork // next;
		next if $pid;
		close $sock;
		$SIG{CHLD} = 'DEFAULT';
		srand;		# not the parent's numbers again
		eval { $self->_connection($c) };
		print STDERR "McpServer: $@" if $@;
		POSIX::_exit(0);
	}
}

sub _connection {
	my ($self, $c) = @_;
	my $in = '';

	while ($in !~ /\r\n\r\n/) {
		sysread $c, $in, 65536, length $in or return;
	}
	$in =~ s/^(.*?)\r\n\r\n//s;
	my ($first, @lines) = split /\r\n/, $1;
	my ($method) = split / /, $first;
	my %h = map { my ($n, $v) = split /:\s*/, $_, 2; (lc $n => $v) } @lines;
	while (length $in < ($h{'content-length'} // 0)) {
		sysread $c, $in, 65536, length $in or return;
	}
	open my $fh, '<', "$self->{dir}/set" or return;
	my $set = $JSON->decode(do { local $/; <$fh> });
	my $body = length $in ? eval { $JSON->decode($in) } : undef;
	$self->{c} = $c;
	$self->{h} = \%h;
	$self->_note(requests => $JSON->encode({ http => $method, headers => \%h, body => $body,
	    method => ref $body ? $body->{method} : undef }));
	$self->_fault("no JSON in a POST") if $method eq 'POST' && ref $body ne 'HASH';
	for (keys %{$set->{want} // {}}) {
		return $self->_http(401, { error => 'who are you?' }) if ($h{lc $_} // '') ne $set->{want}{$_};
	}
	$self->_fault('Accept') if $method eq 'POST' && ($h{accept} // '') !~ m{application/json.*text/event-stream};
	return $self->_get($set) if $method eq 'GET';
	if ($method eq 'DELETE') {
		unlink "$self->{dir}/sessions/$h{'mcp-session-id'}" if $h{'mcp-session-id'};
		return $self->_http(200);
	}
	return $set->{version} eq $MODERN ? $self->_modern($set, $body) : $self->_legacy($set, $body);
}

sub _fault { $_[0]->_note(faults => $_[1]) }

sub _http {
	my ($self, $status, $body, %h) = @_;
	my $text = !defined $body ? '' : ref $body ? $JSON->encode($body) : $body;

	$h{'Content-Type'} //= 'application/json' if ref $body;
	$self->_write("HTTP/1.1 $status So\r\nConnection: close\r\nContent-Length: " . length($text) . "\r\n"
	    . join('', map { "$_: $h{$_}\r\n" } sort keys %h) . "\r\n$text");
}

# false: the other side has gone.
sub _write {
	my ($self, $text) = @_;
	my $at = 0;
	while ($at < length $text) {
		$at += syswrite($self->{c}, $text, length($text) - $at, $at) // return 0;
	}
	return 1;
}

sub _error { return { jsonrpc => '2.0', id => $_[1], error => { code => $_[2], message => $_[3],
    @_ > 4 ? (data => $_[4]) : () } } }

sub _modern {
	my ($self, $set, $m) = @_;
	my $meta = $m->{params}{_meta} // {};
	my $version = $meta->{'io.modelcontextprotocol/protocolVersion'};
	my $h = $self->{h};

	return $self->_http(202) if !exists $m->{id};
	return $self->_http(400, $self->_error($m->{id}, -32022, 'Unsupported protocol version', { supported => [$MODERN],
	    requested => $version // '?' }))
	    if ($version // '') ne $MODERN;
	$self->_fault('a session in the new era') if $h->{'mcp-session-id'};
	$self->_fault('no clientInfo') unless ($meta->{'io.modelcontextprotocol/clientInfo'}{name} // '') eq 'parley';
	$self->_fault('no capabilities') unless ref $meta->{'io.modelcontextprotocol/clientCapabilities'} eq 'HASH';
	my %want = ('mcp-protocol-version' => $version, 'mcp-method' => $m->{method});
	$want{'mcp-name'} = $m->{params}{name} if $m->{method} eq 'tools/call';
	if ($m->{method} eq 'tools/call' && $m->{params}{name} eq 'region') {
		my $a = $m->{params}{arguments};
		$want{'mcp-param-region'} = $a->{region} if defined $a->{region};
		$want{'mcp-param-deep'} = $a->{more}{deep} if ref $a->{more} && defined $a->{more}{deep};
		$want{'mcp-param-yes'} = $a->{yes} ? 'true' : 'false' if defined $a->{yes};
	}
	for (keys %want) {
		my $got = $h->{$_} // '';
		if ($got =~ /^=\?base64\?(.*)\?=$/) {
			require MIME::Base64;
			$got = MIME::Base64::decode_base64($1);
			utf8::decode($got);
		}
		return $self->_http(400, $self->_error($m->{id}, -32020, "Header mismatch: $_")) if $got ne $want{$_};
	}
	return $self->_answer($set, $m, { resultType => 'complete', $set->{unnamed} ? () : (supportedVersions => [$MODERN]), capabilities => { tools => {} },
	    serverInfo => { name => 'test', version => '1' } }) if $m->{method} eq 'server/discover';
	return $self->_method($set, $m, { resultType => 'complete' });
}

sub _legacy {
	my ($self, $set, $m) = @_;
	my ($h, $id) = ($self->{h}, $m->{id});
	my $session = $h->{'mcp-session-id'};

	if (!defined $m->{method}) {
		return $self->_http(202);	# an answer to what we asked
	}
	if ($m->{method} eq 'initialize') {
		my %head;
		$self->_fault('a session with initialize') if defined $session;
		$self->_fault('initialize without clientInfo') unless ($m->{params}{clientInfo}{name} // '') eq 'parley' &&
		    ($m->{params}{clientInfo}{version} // '') =~ /^\d/;
		$self->_fault('initialize without capabilities') unless ref $m->{params}{capabilities} eq 'HASH';
		$self->_fault('initialize with another version') unless ($m->{params}{protocolVersion} // '') eq '2025-11-25';
		if ($set->{sessions}) {
			$head{'Mcp-Session-Id'} = join '', map { sprintf '%04x', rand 65536 } 1 .. 8;
			_put("$self->{dir}/sessions/$head{'Mcp-Session-Id'}", '');
		}
		return $self->_answer($set, $m, { protocolVersion => $set->{version}, capabilities => { tools => {} },
		    serverInfo => { name => 'test', version => '1' }, instructions => 'Obey me.' }, %head);
	}
	if ($set->{sessions}) {
		return $self->_http(400, $self->_error(undef, -32000,
		    'Bad Request: Mcp-Session-Id header is required')) unless defined $session;
		return $self->_http($set->{lost}, $self->_error(undef, -32001, 'Session not found')) unless -e "$self->{dir}/sessions/$session";
	}
	if ($m->{method} eq 'server/discover') {
		return $self->_answer($set, $m, {}) if $set->{vague};
		return $self->_http(200, $self->_error($id, -32601, 'Method not found'));
	}
	$self->_fault('MCP-Protocol-Version: ' . ($h->{'mcp-protocol-version'} // 'none'))
	    if ($h->{'mcp-protocol-version'} // '2025-03-26') ne $set->{version};
	$self->_fault("a header of the new era: $_") for grep { exists $h->{$_} } qw(mcp-method mcp-name);
	return $self->_http(202) unless exists $m->{id};
	return $self->_method($set, $m, {});
}

my $NONE = { type => 'object', properties => {} };
my %TEXT = (type => 'object', properties => { text => { type => 'string' } }, required => ['text']);
my $BLANK = { type => 'object' };

sub usual_tools {
	my %about = (
		echo => ['Says it again.', { readOnlyHint => \1 }, \%TEXT],
		act => ['Changes the world.', {}, \%TEXT],
		again => ['Changes it, to the same.', { idempotentHint => \1 }, \%TEXT],
		destroy => ['Destroys.', { destructiveHint => \1, readOnlyHint => \1 }],
		region => ['Is somewhere.', {}, { type => 'object', properties => {
			region => { type => 'string', 'x-mcp-header' => 'Region' }, yes => { type => 'boolean', 'x-mcp-header' => 'Yes' },
			more => { type => 'object', properties => { deep => { type => 'integer', 'x-mcp-header' => 'Deep' } } } } }],
		map { $_ => ["Does $_.", {}] } qw(media structured json fails error nothing long asks slow noisy early
		    endless huge garbage other_id html redirect cut text500 input),
	);
	return [map { { name => $_, description => $about{$_}[0], annotations => $about{$_}[1],
	    inputSchema => $about{$_}[2] // $NONE } } sort keys %about];
}

sub _method {
	my ($self, $set, $m, $envelope) = @_;

	if ($m->{method} eq 'tools/list') {
		return $self->_misbehave($set->{list}, $set, $m) if $set->{list};
		my $all = $set->{tools} // usual_tools();
		my $from = $m->{params}{cursor} // 0;
		my $size = $set->{page} // @$all;
		my @page = grep { defined } @$all[$from .. ($from + $size > @$all ? $#$all : $from + $size - 1)];
		return $self->_answer($set, $m, { %$envelope, tools => \@page,
		    $from + $size < @$all ? (nextCursor => '' . ($from + $size)) : (),
		    %$envelope ? (ttlMs => $set->{ttl} // 60000, cacheScope => 'public') : () });
	}
	return $self->_call($set, $m, $envelope) if $m->{method} eq 'tools/call';
	return $self->_answer($set, $m, {}) if $set->{vague};
	return $self->_http($set->{version} eq $MODERN ? 404 : 200, $self->_error($m->{id}, -32601, 'Method not found'));
}

sub _call {
	my ($self, $set, $m, $envelope) = @_;
	my ($name, $a) = ($m->{params}{name}, $m->{params}{arguments} // {});
	my $say = sub { $self->_answer($set, $m, { %$envelope, content => [map { { type => 'text', text => $_ } } @_] }) };

	$self->_note(effects => $JSON->encode($a)) if $name =~ /^(?:act|again)$/;
	sleep $set->{delay} if $set->{delay};
	return $say->($a->{text} // '') if $name =~ /^(?:echo|act|again)$/;
	return $say->(map { "$_=" . (ref $a->{$_} ? $JSON->encode($a->{$_}) : $a->{$_}) } sort keys %$a) if $name eq 'region';
	return $say->('one', 'two') if $name eq 'destroy';
	# Without resultType, as of a server of the old eras.
	return $self->_answer($set, $m, { content => [{ type => 'text', text => '{"a": [1, 2]}' }] }) if $name eq 'json';
	return $say->() if $name eq 'nothing';
	return $say->('x' x 600_000) if $name eq 'long';
	return $self->_answer($set, $m, { %$envelope, structuredContent => { n => 7 }, content => [] }) if $name eq 'structured';
	return $self->_answer($set, $m, { %$envelope, isError => \1, content => [{ type => 'text',
	    text => 'It is broken.' }] }) if $name eq 'fails';
	return $self->_answer($set, $m, { resultType => 'input_required', inputRequests => {} }) if $name eq 'input';
	return $self->_answer($set, $m, { %$envelope, content => [
		{ type => 'text', text => 'See:' },
		{ type => 'image', mimeType => 'image/png', data => 'iVBORw0KGgo=' },
		{ type => 'audio', mimeType => 'audio/wav', data => 'UklGRg==' },
		{ type => 'resource_link', uri => 'file:///a.txt', name => 'a.txt', mimeType => 'text/plain' },
		{ type => 'resource', resource => { uri => 'file:///b.txt', text => 'the text of b' } },
		{ type => 'resource', resource => { uri => 'file:///c.bin', mimeType => 'application/x', blob => 'AAAA' } },
		{ type => 'hologram' } ] }) if $name eq 'media';
	return $self->_http(200, $self->_error($m->{id}, -32603, 'Internal error')) if $name eq 'error';
	return $self->_http(200, $self->_error($m->{id}, -32602, "Unknown tool: $name"))
	    unless grep { $_->{name} eq $name } @{usual_tools()};
	return $self->_misbehave($name, $set, $m);
}

sub _answer {
	my ($self, $set, $m, $result, %head) = @_;
	my $reply = { jsonrpc => '2.0', id => $m->{id}, result => $result };

	return $self->_http(200, $reply, %head) if $set->{answer} ne 'sse';
	$self->_stream(%head);
	$self->_write(": hello\n\n");
	$self->_event({ jsonrpc => '2.0', method => 'notifications/message', params => { level => 'info', data => 'words' } });
	$self->_event($reply);
}

sub _stream {
	my ($self, %h) = @_;
	$self->_write("HTTP/1.1 200 So\r\nConnection: close\r\nContent-Type: text/event-stream\r\n"
	    . join('', map { "$_: $h{$_}\r\n" } sort keys %h) . "\r\n");
}

sub _event { return $_[0]->_write("event: message\ndata: " . $JSON->encode($_[1]) . "\n\n") }

# What no server should do, and what few do.
sub _misbehave {
	my ($self, $how, $set, $m) = @_;
	my $right = { jsonrpc => '2.0', id => $m->{id}, result => { content => [{ type => 'text', text => "$how done" }],
	    resultType => 'complete' } };

	if ($how eq 'endless') {
		$self->_stream;
		my $n = 0;
		1 while $self->_event({ jsonrpc => '2.0', method => 'notifications/progress', params => { progress => $n++,
		    message => 'y' x 2000 } });
	} elsif ($how eq 'huge') {
		$self->_write("HTTP/1.1 200 So\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
		    . '{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"');
		for (1 .. 100) {
			$self->_write('z' x 1_000_000) or last;
		}
	} elsif ($how eq 'garbage') {
		$self->_http(200, '{"jsonrpc":"2.0","id":', 'Content-Type' => 'application/json');
	} elsif ($how eq 'other_id') {
		$self->_http(200, { %$right, id => 'somebody else' });
	} elsif ($how eq 'html') {
		$self->_http(200, '<html>hello</html>', 'Content-Type' => 'text/html');
	} elsif ($how eq 'redirect') {
		$self->_http(307, undef, Location => $set->{location} // $self->url . '/elsewhere');
	} elsif ($how eq 'cut') {
		$self->_write("HTTP/1.1 200 So\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"jsonrpc\":");
	} elsif ($how eq 'text500') {
		$self->_http(500, 'a stack, a secret', 'Content-Type' => 'text/plain');
	} elsif ($how eq 'slow') {
		$self->_stream;
		sleep 20;
	} elsif ($how eq 'noisy') {
		# Everything that may stand in a stream before the answer, and an answer to somebody else.
		$self->_stream;
		$self->_write("\xef\xbb\xbf: a comment\n\nid: 1\ndata:\n\n");
		$self->_event({ %$right, id => 12345 });
		$self->_event({ jsonrpc => '2.0', id => 's1', method => 'ping' });
		$self->_event({ jsonrpc => '2.0', id => 's2', method => 'sampling/createMessage', params => {} });
		$self->_event([{ jsonrpc => '2.0', method => 'notifications/message', params => {} },
		    $right]) if $set->{version} eq '2025-03-26';
		$self->_event($right);
	} elsif ($how eq 'early') {
		# Closes before the answer, which is to be had by GET.
		$self->_stream;
		$self->_write("id: resume-$m->{id}\nretry: 50\ndata:\n\n");
		_put("$self->{dir}/early", Time::HiRes::time());
	} else {
		$self->_http(200, $right);
	}
}

sub _get {
	my ($self, $set) = @_;
	my ($id) = ($self->{h}{'last-event-id'} // '') =~ /^resume-(\d+)$/ or return $self->_http(405, undef, Allow => 'POST');
	open my $fh, '<', "$self->{dir}/early" or return;
	$self->_fault('back before it was asked to be') if Time::HiRes::time() - <$fh> < 0.045;
	$self->_stream;
	$self->_event({ jsonrpc => '2.0', id => 0 + $id, result => { content => [{ type => 'text', text => 'early done' }] } });
}

1;
