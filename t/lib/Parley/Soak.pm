package Parley::Soak;

# A long time of mixed load, and what the workers are like meanwhile.
#
#	my $soak = Parley::Soak->new(seconds => 3600, every => 30, rate => 30, clients => 24, margin => 5, workers => 4);
#	$soak->run;
#	print $soak->summary;
#	exit($soak->complaints ? 1 : 0);
#
# The load is that of Parley::Soak::Client; a sample is { at, and the sums over all workers: pss, rss (KB), fds, threads;
# connections (to PostgreSQL, as the worker's role) }.  Growth is that of a line through the second half: the first warms up.

use strict;
use warnings;

use File::Path ();
use List::Util qw(max sum0);
use Time::HiRes qw(sleep time);

use Parley::Audit;
use Parley::Contract qw(text_reply);
use Parley::Model;
use Parley::Process;
use Parley::Soak::Client;
use Parley::Test;

my @KEYS = qw(pss rss fds threads connections);
my $REST = 8;		# seconds until turns whose clients have gone are over

sub new {
	my ($class, %opt) = @_;
	my $self = bless { seconds => 3600, every => 30, rate => 30, clients => 24, margin => 5, workers => 4, %opt,
	    samples => [], bad => [], dir => Parley::Process::tempdir() }, $class;
	my $model = Parley::Model->new(scripts => {
		slow => text_reply('This ', 300, 'takes ', 300, 'its ', 300, 'time, ', 300, 'and ', 300, 'ends.'),
		long => text_reply('On ', map { (200, "and on $_ ") } 1 .. 100),
	});

	$self->{t} = Parley::Test->new(model => $model, workers => $self->{workers}, nginx_workers => 2);
	Parley::Process::wait_for { $self->{t}->pids == $self->{workers} } 20 or die 'not all workers came';
	return $self;
}

sub run {
	my ($self) = @_;
	my $t = $self->{t};
	my $began = time;
	my $until = $began + $self->{seconds};
	my @pids = $t->pids;

	$self->{first} = $self->_sample($began);
	my @client = map { Parley::Soak::Client::start($t, $_, rate => $self->{rate} / $self->{clients}, until => $until,
	    out => "$self->{dir}/client.$_") } 1 .. $self->{clients};
	$self->{client} = { map { $_ => 1 } @client };
	for (my $at = $began + $self->{every}; $at <= $until; $at += $self->{every}) {
		sleep max(0, $at - time);
		push @{$self->{samples}}, $self->_sample($began);
		$self->_progress;
	}
	for (@client) {
		waitpid $_, 0;
		push @{$self->{bad}}, "a client ended with $?" if $?;
	}
	$self->{client} = {};
	$self->_quiet;
	$self->{last} = $self->_sample($began);
	$self->_judge(\@pids);
}

sub complaints { return @{$_[0]{bad}} }
sub samples { return @{$_[0]{samples}} }

sub summary {
	my ($self) = @_;
	my $text = sprintf "%d s, %d workers, %d clients, %d things done (%.1f/s), %d turns stored\n", $self->{seconds}, $self->{workers},
	    $self->{clients}, $self->{did}, $self->{did} / $self->{seconds}, $self->{turns};

	$text .= "done:    " . _counts($self->{done}) . "\nanswers: " . _counts($self->{answers}) . "\n";
	$text .= sprintf "%-12s %10s %10s %10s %10s %12s\n", 'all workers', 'first', 'half', 'end', 'at rest', 'slope of 2nd half';
	my @s = @{$self->{samples}};
	for my $key (@KEYS) {
		$text .= sprintf "%-12s %10d %10d %10d %10d %+12.1f/h\n", $key . ($key =~ /ss$/ ? ' KB' : ''), $self->{first}{$key},
		    $s[$#s / 2]{$key}, $s[-1]{$key}, $self->{last}{$key}, 3600 * $self->_slope($key);
	}
	return $text . (@{$self->{bad}} ? join '', map { "BAD: $_\n" } @{$self->{bad}} : "all is well\n");
}

sub _counts {
	my ($count) = @_;
	return join ', ', map { "$_: $count->{$_}" } sort keys %$count;
}

sub _sample {
	my ($self, $began) = @_;
	my %s = (at => time - $began, map { $_ => 0 } @KEYS);

	for my $pid ($self->{t}->pids) {
		$s{pss} += _number("/proc/$pid/smaps_rollup", qr/^Pss:\s+(\d+)/m);
		$s{rss} += _number("/proc/$pid/status", qr/^VmRSS:\s+(\d+)/m);
		$s{threads} += _number("/proc/$pid/status", qr/^Threads:\s+(\d+)/m);
		opendir my $dir, "/proc/$pid/fd" or next;
		$s{fds} += grep { !/^\./ } readdir $dir;
	}
	$s{connections} = $self->{t}->pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'parley_worker'});
	return \%s;
}

sub _number {
	my ($path, $what) = @_;
	open my $fh, '<', $path or return 0;
	local $/;
	return (<$fh> // '') =~ $what ? $1 : 0;
}

sub _progress {
	my ($self) = @_;
	my $s = $self->{samples}[-1];
	return if $self->{still};
	printf STDERR "# %6.0f s  pss %d KB, rss %d KB, %d descriptors, %d connections, %d threads\n",
	    @$s{qw(at pss rss fds connections threads)};
}

# No turn is live any more, within the time that the longest may take.
sub _quiet {
	my ($self) = @_;
	Parley::Process::wait_for { !$self->_live } 60;
	sleep $REST;
}

sub _live { $_[0]{t}->pg->one(q{SELECT count(*) FROM parley.turns WHERE state NOT IN ('done', 'failed', 'cancelled')}) }

sub _second_half {
	my ($self) = @_;
	my @s = @{$self->{samples}};
	return @s[@s / 2 .. $#s];
}

# Least squares over the second half, per second.
sub _slope {
	my ($self, $key) = @_;
	my @s = $self->_second_half;
	my ($mx, $my) = map { my $k = $_; sum0(map { $_->{$k} } @s) / @s } 'at', $key;
	my $square = sum0(map { ($_->{at} - $mx) ** 2 } @s) || 1;

	return sum0(map { ($_->{at} - $mx) * ($_->{$key} - $my) } @s) / $square;
}

# What the second half of the time has added.
sub _grown {
	my ($self, $key) = @_;
	my @s = $self->_second_half;
	return $self->_slope($key) * ($s[-1]{at} - $s[0]{at});
}

sub _judge {
	my ($self, $pids) = @_;
	my $bad = $self->{bad};
	my %now = map { $_ => 1 } $self->{t}->pids;

	$self->_collect;
	push @$bad, 'workers died: ' . join ' ', grep { !$now{$_} } @$pids if grep { !$now{$_} } @$pids;
	push @$bad, $self->{t}->pool->sickness if $self->{t}->pool->sickness ne '';
	push @$bad, $self->_live . ' turns are still live' if $self->_live;
	# Tasks come from /mcp as well, and stay when a conversation is deleted: they are not counted against calls.
	push @$bad, "in the rows: $_" for grep { !/^a task that no call made|^\.\.\. and/ } Parley::Audit::complaints($self->{t}->pg);
	$self->_judge_log;
	$self->_judge_growth;
}

sub _collect {
	my ($self) = @_;
	my (%sum, @said);

	for my $n (1 .. $self->{clients}) {
		my $told = Parley::Soak::Client::told("$self->{dir}/client.$n") or next;
		for my $what (qw(done answers)) {
			$sum{$what}{$_} += $told->{$what}{$_} for keys %{$told->{$what}};
		}
		push @said, @{$told->{bad}};
	}
	@$self{qw(done answers)} = @sum{qw(done answers)};
	$self->{did} = sum0(values %{$sum{done}});
	$self->{turns} = $self->{t}->pg->one('SELECT count(*) FROM parley.turns');
	push @{$self->{bad}}, @said > 20 ? (@said[0 .. 19], @said - 20 . ' more') : @said;
}

sub _judge_log {
	my ($self) = @_;
	my ($n, $first) = (0, '');

	open my $fh, '<', $self->{t}->pool->log_file or die "log: $!";
	while (<$fh>) {
		next if /^\{/ && !/"level": ?"error"/;
		$first = $_ unless $n++;
	}
	push @{$self->{bad}}, "$n lines of the log are errors, the first: $first" if $n;
}

sub _judge_growth {
	my ($self) = @_;
	my ($first, $last) = @$self{qw(first last)};
	my $margin = max(1024, $last->{pss} * $self->{margin} / 100);

	for my $key (qw(pss rss)) {
		my $kb = $self->_grown($key);
		push @{$self->{bad}}, sprintf '%s grew by %.0f KB in the second half (margin %.0f)', $key, $kb, $margin if $kb > $margin;
	}
	# Connections are kept for the next turn: at rest there may be as many as the pools hold, not one for each turn.
	for my $key (qw(fds connections threads)) {
		my $n = $self->_grown($key);
		my $room = $key eq 'threads' ? $self->{workers} : 8 * $self->{workers};
		push @{$self->{bad}}, sprintf '%s grew by %.0f in the second half', $key, $n if $n > $room;
		push @{$self->{bad}}, "$key: $last->{$key} at rest, $first->{$key} at first" if $last->{$key} > $first->{$key} + 2 * $room;
	}
}

sub DESTROY {
	my ($self) = @_;
	local ($?, $!, $@);
	kill 'TERM', keys %{$self->{client} // {}};
	delete $self->{t};
	File::Path::remove_tree($self->{dir});
}

1;
