package Parley::Browser;

# A headless Chromium, driven over its DevTools protocol: JSON between NULs on two pipes, so
# that no other program is needed.
#
#	my $why = Parley::Browser::missing(); plan skip_all => $why if $why;
#	my $b = Parley::Browser->new;
#	my $p = $b->page(width => 390, height => 800, dark => 1, touch => 1);
#	$p->go("$url/#token=$token");
#	$p->eval('document.title');		# the value, promises are waited for
#	$p->wait('document.querySelector(".bubble")');	# true within 10 s, or dies
#	$p->type('text'); $p->key('Enter'); $p->key('Tab', shift => 1);
#	$p->click('.send'); $p->shot('file.png');
#	$p->offline(1);
#	$p->complaints;		# console errors, exceptions, CSP violations
#
# A page is a browser context of its own: nothing of another's storage is in it, unless
# it is opened with beside => $page (a second tab).

use strict;
use warnings;

use Fcntl ();
use File::Path ();
use IO::Select;
use JSON::XS ();
use MIME::Base64 ();
use POSIX ();
use Time::HiRes qw(time);

use Parley::Process;

my $JSON = JSON::XS->new->utf8->allow_nonref;

sub program {
	my ($path) = grep { defined && -x } $ENV{PARLEY_CHROMIUM},
	    map { my $d = $_; map { "$d/$_" } qw(chromium chromium-browser google-chrome) } split /:/, $ENV{PATH};
	return $path;
}

sub missing { program() ? undef : 'no Chromium (Debian: chromium)' }

sub new {
	my ($class) = @_;
	my $self = bless { owner_pid => $$, dir => Parley::Process::tempdir(), next => 1, in => '', answers => {}, pages => {} }, $class;

	pipe my $from_us, my $to or die "pipe: $!";
	pipe my $from, my $to_us or die "pipe: $!";
	# Descriptors 3 and 4 are what it reads and writes; ours may be those very ones, so they move out of the way first.
	my @far = map { my $fd = fcntl($_, Fcntl::F_DUPFD(), 20) // die "dup: $!"; $fd } $from_us, $to_us;
	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0) {
		POSIX::dup2($far[0], 3);
		POSIX::dup2($far[1], 4);
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', "$self->{dir}/log";
		open STDERR, '>&', \*STDOUT;
		$ENV{HOME} = $self->{dir};
		delete $ENV{$_} for qw(DISPLAY DBUS_SESSION_BUS_ADDRESS);
		exec 'setpriv', '--pdeathsig', 'TERM', program(), '--headless=new', '--remote-debugging-pipe',
		    '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--mute-audio', '--hide-scrollbars',
		    '--disable-extensions', '--disable-background-networking', '--disable-component-update', '--no-proxy-server',
		    '--lang=en-US', "--user-data-dir=$self->{dir}/profile", 'about:blank' or POSIX::_exit(127);
	}
	POSIX::close($_) for @far;
	$self->{to} = $to;
	$self->{from} = $from;
	binmode $_ for $to, $from;
	$self->call('Browser.getVersion');
	return $self;
}

# One command; dies with what the browser says against it.
sub call {
	my ($self, $method, $params, $session) = @_;
	my $id = $self->{next}++;

	my $bytes = $JSON->encode({ id => $id, method => $method, params => $params // {}, $session ? (sessionId => $session) : () }) . "\0";
	local $SIG{PIPE} = 'IGNORE';
	for (my $at = 0; $at < length $bytes;) {
		$at += syswrite($self->{to}, $bytes, length($bytes) - $at, $at) // die "the browser has gone: $!";
	}
	my $until = time + 60;
	$self->_read($until - time) until exists $self->{answers}{$id} || time > $until;
	my $answer = delete $self->{answers}{$id} // die "$method: no answer";
	die "$method: $answer->{error}{message}\n" if $answer->{error};
	return $answer->{result};
}

# Takes what is there, waiting up to so many seconds for something.
sub _read {
	my ($self, $seconds) = @_;

	IO::Select->new($self->{from})->can_read($seconds > 0 ? $seconds : 0) or return 0;
	sysread $self->{from}, $self->{in}, 1 << 20, length $self->{in} or die 'the browser has ended: ' . $self->_log;
	while ((my $end = index $self->{in}, "\0") >= 0) {
		my $m = $JSON->decode(substr $self->{in}, 0, $end);
		substr($self->{in}, 0, $end + 1) = '';
		if (defined $m->{id}) {
			$self->{answers}{$m->{id}} = $m;
		} elsif (my $page = $self->{pages}{$m->{sessionId} // ''}) {
			$page->_event($m->{method}, $m->{params});
		}
	}
	return 1;
}

sub _log {
	my ($self) = @_;
	open my $fh, '<', "$self->{dir}/log" or return '';
	local $/;
	return <$fh> // '';
}

sub page {
	my ($self, %opt) = @_;
	return Parley::Browser::Page->_new($self, %opt);
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!, $@);
	if (my $pid = delete $self->{pid}) {
		kill 'TERM', $pid;
		Parley::Process::wait_for { waitpid($pid, 1) != 0 } 5 or kill 'KILL', $pid;
		waitpid $pid, 0;
	}
	# Its helpers write for a moment longer.
	for (1 .. 20) {
		File::Path::remove_tree($self->{dir}, { error => \my $busy });
		last unless @$busy;
		Time::HiRes::sleep(0.1);
	}
}

package Parley::Browser::Page;

use Time::HiRes qw(sleep time);

sub _new {
	my ($class, $browser, %opt) = @_;
	my $self = bless { browser => $browser, bad => [], requests => [] }, $class;

	$self->{context} = $opt{beside} ? $opt{beside}{context}
	    : $browser->call('Target.createBrowserContext')->{browserContextId};
	$self->{target} = $browser->call('Target.createTarget', { url => 'about:blank', browserContextId => $self->{context} })->{targetId};
	$self->{session} = $browser->call('Target.attachToTarget', { targetId => $self->{target}, flatten => \1 })->{sessionId};
	$browser->{pages}{$self->{session}} = $self;
	$self->call("$_.enable") for qw(Page Runtime Log Network);
	$self->size($opt{width} // 1280, $opt{height} // 860, $opt{touch}, $opt{scale});
	$self->media(%opt);
	$self->call('Emulation.setLocaleOverride', { locale => $opt{locale} // 'en-US' });
	$self->call('Emulation.setFocusEmulationEnabled', { enabled => \1 });
	return $self;
}

sub call { my ($self, $method, $params) = @_; return $self->{browser}->call($method, $params, $self->{session}) }

sub size {
	my ($self, $width, $height, $touch, $scale) = @_;
	$self->call('Emulation.setDeviceMetricsOverride', { width => 0 + $width, height => 0 + $height,
		deviceScaleFactor => 0 + ($scale // 1), mobile => $touch ? \1 : \0 });
	$self->call('Emulation.setTouchEmulationEnabled', { enabled => $touch ? \1 : \0 });
}

sub media {
	my ($self, %opt) = @_;
	$self->call('Emulation.setEmulatedMedia', { features => [
		{ name => 'prefers-color-scheme', value => $opt{dark} ? 'dark' : 'light' },
		{ name => 'prefers-reduced-motion', value => $opt{moving} ? 'no-preference' : 'reduce' } ] });
}

sub offline {
	my ($self, $off) = @_;
	$self->call('Network.emulateNetworkConditions', { offline => $off ? \1 : \0, latency => 0, downloadThroughput => -1, uploadThroughput => -1 });
}

sub _event {
	my ($self, $name, $p) = @_;

	if ($name eq 'Runtime.exceptionThrown') {
		my $d = $p->{exceptionDetails};
		push @{$self->{bad}}, 'exception: ' . ($d->{exception}{description} // $d->{text});
	} elsif ($name eq 'Runtime.consoleAPICalled' && $p->{type} =~ /^(?:error|assert)$/) {
		push @{$self->{bad}}, 'console: ' . join ' ', map { $_->{value} // $_->{description} // '' } @{$p->{args}};
	} elsif ($name eq 'Log.entryAdded' && $p->{entry}{level} eq 'error') {
		push @{$self->{bad}}, "$p->{entry}{source}: $p->{entry}{text} " . ($p->{entry}{url} // '');
	} elsif ($name eq 'Network.requestWillBeSent') {
		push @{$self->{requests}}, { method => $p->{request}{method}, url => $p->{request}{url}, headers => $p->{request}{headers} };
	}
}

# What the console says, but for answers that the page is there to handle (and that Chromium logs by itself).
sub complaints {
	my ($self, %opt) = @_;
	$self->eval('1');
	my @bad = @{$self->{bad}};
	$self->{bad} = [];
	my $expected = $opt{but};
	return grep { !defined $expected || !/$expected/ } @bad;
}

sub requests { @{$_[0]{requests}} }

sub go {
	my ($self, $url) = @_;
	# Another fragment of the same page alone would load nothing.
	$self->call('Page.navigate', { url => 'about:blank' });
	$self->wait('location.href === "about:blank"');
	$self->call('Page.navigate', { url => $url });
	$self->wait('document.readyState === "complete" && document.querySelector(".composer, dialog")');
}

sub reload {
	my ($self) = @_;
	$self->eval('window.beforeReload = true');
	$self->call('Page.reload');
	$self->wait('!window.beforeReload && document.readyState === "complete" && document.querySelector(".composer, dialog")');
}

sub eval {
	my ($self, $code) = @_;
	my $r = $self->call('Runtime.evaluate', { expression => $code, awaitPromise => \1, returnByValue => \1, userGesture => \1 });
	die "eval: " . ($r->{exceptionDetails}{exception}{description} // $r->{exceptionDetails}{text}) . "\n in: $code" if $r->{exceptionDetails};
	return $r->{result}{value};
}

# Until the expression is true; dies otherwise, with what the page shows.
sub wait {
	my ($self, $code, $seconds) = @_;
	my $until = time + ($seconds // 10);
	my $got;

	while (1) {
		# The page may be on its way to another address.
		$got = CORE::eval { $self->eval("Boolean($code)") };
		return 1 if $got;
		last if time > $until;
		sleep 0.03;
	}
	die "the page never was so: $code\n$@" . (CORE::eval { $self->text('body') } // '') . "\n";
}

sub text {
	my ($self, $selector) = @_;
	return $self->eval('document.querySelector(' . $JSON->encode($selector) . ')?.innerText ?? null');
}

sub texts {
	my ($self, $selector) = @_;
	return @{$self->eval('[...document.querySelectorAll(' . $JSON->encode($selector) . ')].map((e) => e.innerText)')};
}

sub count {
	my ($self, $selector) = @_;
	return $self->eval('document.querySelectorAll(' . $JSON->encode($selector) . ').length');
}

# A click as a mouse makes it, in the middle of the element.
sub click {
	my ($self, $selector) = @_;
	my $s = $JSON->encode($selector);

	$self->wait("document.querySelector($s)");
	my $at = $self->eval("(() => { const e = document.querySelector($s); e.scrollIntoView({ block: 'nearest' });
		const r = e.getBoundingClientRect(); return { x: r.x + r.width / 2, y: r.y + r.height / 2 }; })()");
	$self->call('Input.dispatchMouseEvent', { type => 'mouseMoved', %$at });
	$self->call('Input.dispatchMouseEvent', { type => $_, %$at, button => 'left', clickCount => 1 }) for qw(mousePressed mouseReleased);
}

sub type {
	my ($self, $text) = @_;
	$self->call('Input.insertText', { text => $text });
}

my %KEYS = (Enter => [13, "\r"], Tab => [9], Escape => [27], Space => [32, ' '], ArrowDown => [40], ArrowUp => [38],
	PageUp => [33], PageDown => [34], Home => [36], End => [35], Backspace => [8]);

sub key {
	my ($self, $name, %with) = @_;
	my ($code, $text) = @{$KEYS{$name} // [ord uc $name, $with{ctrl} ? undef : $name]};
	my $bits = ($with{alt} ? 1 : 0) + ($with{ctrl} ? 2 : 0) + ($with{shift} ? 8 : 0);
	my %key = (key => $name eq 'Space' ? ' ' : $name, code => $KEYS{$name} ? $name : 'Key' . uc $name, windowsVirtualKeyCode => $code, modifiers => $bits);

	$self->call('Input.dispatchKeyEvent', { type => defined $text ? 'keyDown' : 'rawKeyDown', %key, defined $text ? (text => $text) : () });
	$self->call('Input.dispatchKeyEvent', { type => 'keyUp', %key });
}

# Presses Tab until the element has the focus; false if it never gets it.
sub tab_to {
	my ($self, $selector, $most) = @_;
	my $s = $JSON->encode($selector);

	for (1 .. $most // 40) {
		$self->key('Tab');
		return 1 if $self->eval("Boolean(document.activeElement?.matches($s))");
	}
	return 0;
}

sub shot {
	my ($self, $file) = @_;
	my $png = MIME::Base64::decode_base64($self->call('Page.captureScreenshot', { format => 'png' })->{data});
	open my $fh, '>:raw', $file or die "$file: $!";
	print $fh $png;
	close $fh or die "$file: $!";
}

sub close {
	my ($self) = @_;
	$self->{browser}->call('Target.closeTarget', { targetId => $self->{target} });
	delete $self->{browser}{pages}{$self->{session}};
}

1;
