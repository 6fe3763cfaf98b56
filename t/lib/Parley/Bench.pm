package Parley::Bench;

# The world of the bench, and the instruments: what it took, in time, CPU and memory.
#
#	my $b = Parley::Bench->new;			# a durable PostgreSQL, a table of figures
#	my $t = $b->serve(2000, 'turn.lease' => '20s');	# model that takes 2 s, workers, nginx: a Parley::Test
#	my $s = $b->serve_securely(2000);		# the same with TLS and HTTP/2 to the model
#	my $l = $b->load($t, concurrency => 64, seconds => 3);	# what t/bench/load says
#	$b->group('plain turns');			# a heading of the table
#	$b->figure('p95', 1.7, 's', ['at most', 2]);	# a row of it
#
# Everything is on 127.0.0.1 or a Unix socket, and is stopped when the object that
# stands for it goes.

use strict;
use warnings;

use JSON::XS ();
use POSIX ();
use Time::HiRes qw(sleep time);

use Parley::Bench::Secure;
use Parley::Model;
use Parley::Pool;
use Parley::Postgres;
use Parley::Process;
use Parley::Test;

# Descriptors that a process needs beside those of turns.
my $SPARE = 600;

sub new {
	my ($class, %opt) = @_;
	my $self = bless { quick => 0, %opt, figures => [], notes => [], dir => Parley::Process::tempdir() }, $class;

	$self->{cores} = int(`nproc`) || 1;
	$self->{workers} = $self->{cores} < 4 ? $self->{cores} : 4;
	$self->{limit} = $self->_descriptors;
	$self->{load} = Parley::Pool::program('t/bench/load');
	$self->{pg} = Parley::Postgres->new(settings => {
		fsync => 'on', full_page_writes => 'on', synchronous_commit => 'on',
		shared_buffers => '256MB', max_wal_size => '4GB',
	});
	$self->note("only $self->{cores} cores: load, nginx, model, PostgreSQL and workers get in each other's way")
	    if $self->{cores} < 4;
	return $self;
}

sub pg { $_[0]{pg} }
sub quick { $_[0]{quick} }
sub rounds { $_[0]{quick} ? 1 : 3 }		# of which the median counts
sub note { push @{$_[0]{notes}}, $_[1]; print STDERR "# $_[1]\n" }

# As many turns in flight as wanted, or as the descriptors allow: load and model hold one for each turn, a worker two for
# its share of them, and an nginx worker as well.
sub fits {
	my ($self, $want) = @_;
	my $most = $self->{limit} - $SPARE;
	my $share = int(($self->{limit} - $SPARE) / 2 * $self->{workers} * 0.8);

	$most = $share if $share < $most;
	$most = 2500 * $self->{cores} if $self->{cores} < 4 && 2500 * $self->{cores} < $most;
	return $want if $want <= $most;
	$self->note("$most turns in flight instead of $want ($self->{cores} cores, $self->{limit} descriptors)");
	return $most;
}

# Workers as users start them, on a model that takes so many milliseconds.
sub serve {
	my ($self, $delay, %conf) = @_;
	return $self->_serve(Parley::Model->new(delay => $delay), \%conf);
}

sub _serve {
	my ($self, $model, $conf) = @_;
	my $t = Parley::Test->new(pg => $self->{pg}, model => $model, workers => $self->{workers},
	    nginx_workers => $self->{workers}, conf => $conf);

	Parley::Process::wait_for { $t->pids == $self->{workers} } 20 or die 'not all workers came';
	return $t;
}

# The same with TLS and HTTP/2 to the model; see Parley::Bench::Secure.
sub serve_securely {
	my ($self, $delay, %conf) = @_;
	my $model = Parley::Model->new(delay => $delay);
	my $secure = Parley::Bench::Secure->new($model);
	my $t = $self->_serve($model, { $secure->conf, %conf });

	$t->{secure} = $secure;
	return $t;
}

# Options of t/bench/load, without dashes; users => N: so many have tokens.
# meanwhile => sub { }: is called now and then while it runs.
sub load {
	my ($self, $t, %opt) = @_;
	my $users = delete $opt{users} // $opt{concurrency};
	my $meanwhile = delete $opt{meanwhile};
	my $dir = $self->{dir};
	my @cmd = ($self->{load}, '--url', $t->url . '/api/chat', '--tokens', $self->_tokens($t, $users > 1000 ? 1000 : $users));

	push @cmd, "--$_", ($opt{$_} eq '' ? () : $opt{$_}) for sort keys %opt;
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		open STDOUT, '>', "$dir/load.json" or POSIX::_exit(127);
		exec { $cmd[0] } @cmd or POSIX::_exit(127);
	}
	while (waitpid($pid, $meanwhile ? POSIX::WNOHANG() : 0) == 0) {
		$meanwhile->();
		sleep 0.2;
	}
	die "load ended with $?" if $?;
	open my $fh, '<', "$dir/load.json" or die "load.json: $!";
	my $l = JSON::XS::decode_json(do { local $/; <$fh> });
	$self->note("$l->{count} requests, only $l->{ok} answered: " . JSON::XS::encode_json({ map { $_ => $l->{$_} } qw(status codes errors) }))
	    if $l->{ok} < $l->{count};
	return $l;
}

# User and system time of processes so far, in microseconds.
sub cpu_us {
	my ($self, @pids) = @_;
	my $ticks = 0;

	for my $pid (@pids) {
		open my $fh, '<', "/proc/$pid/stat" or next;
		my @f = split ' ', (<$fh> // '') =~ s/^.*\) //sr;
		$ticks += $f[11] + $f[12];
	}
	return $ticks * 1e6 / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# Memory of processes in KB, what is shared counted in parts.
sub pss_kb {
	my ($self, @pids) = @_;
	my $kb = 0;

	for my $pid (@pids) {
		open my $fh, '<', "/proc/$pid/smaps_rollup" or next;
		while (<$fh>) {
			$kb += $1 if /^Pss:\s+(\d+)/;
		}
	}
	return $kb;
}

# Statements as the superuser, all at once, each on a connection of its own.
sub psql_at_once {
	my ($self, @sql) = @_;
	my @run = map {
		open my $out, '-|', $self->{pg}->bindir . '/psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-c', $_, '-d', $self->{pg}->url
		    or die "psql: $!";
		$out;
	} @sql;

	for (@run) {
		my $said = do { local $/; <$_> };
		close $_ or die 'psql: ' . ($said // '');
	}
}

# What was stored is known to the planner, and written: no later figure pays for it.
sub settle { $_[0]{pg}->do($_, 'parley') for 'VACUUM ANALYZE', 'CHECKPOINT' }

# Where the database lies.
sub free_mb {
	my ($self) = @_;
	my $dir = $self->{pg}->dir;
	return `df -Pm '$dir'` =~ /^\S+\s+\d+\s+\d+\s+(\d+)/m ? $1 : 0;
}

# Turns that the database knows as running.
sub running { $_[0]{pg}->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'approval_required')}) }

sub median {
	my @v = sort { $a <=> $b } @_;
	return @v % 2 ? $v[@v / 2] : ($v[@v / 2 - 1] + $v[@v / 2]) / 2;
}

# The smallest value that so large a part of all is not above.
sub percentile {
	my ($part, @v) = @_;
	@v = sort { $a <=> $b } @v;
	return $v[POSIX::ceil($part * @v) - 1];
}

sub group { $_[0]{group} = $_[1]; print STDERR "# $_[1]\n" }

# aim: [at least|at most, number], or none.
sub figure {
	my ($self, $name, $value, $unit, $aim) = @_;
	my %f = (group => $self->{group}, name => $name, value => 0 + sprintf('%.4g', $value), unit => $unit);

	if ($aim) {
		my $good = $aim->[0] eq 'at least' ? $value >= $aim->[1] : $value <= $aim->[1];
		@f{qw(aim met)} = ("$aim->[0] $aim->[1]", $good ? JSON::XS::true : JSON::XS::false);
	}
	push @{$self->{figures}}, \%f;
	print STDERR "#   $name: $f{value} $unit\n";
}

sub table {
	my ($self) = @_;
	my ($text, $group) = ('', '');

	for my $f (@{$self->{figures}}) {
		$text .= "$f->{group}\n" if $f->{group} ne $group;
		$group = $f->{group};
		$text .= sprintf "    %-56s %9s %-8s%s\n", @$f{qw(name value unit)},
		    $f->{aim} ? "$f->{aim}: " . ($f->{met} ? 'met' : 'NOT met') : '';
	}
	$text =~ s/ +$//mg;
	return $text . join '', map { "note: $_\n" } @{$self->{notes}};
}

sub json {
	my ($self) = @_;
	return JSON::XS->new->canonical->pretty->encode({
		cores => $self->{cores}, descriptors => $self->{limit}, quick => $self->{quick} ? JSON::XS::true : JSON::XS::false,
		at => POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime), figures => $self->{figures}, notes => $self->{notes},
	});
}

sub _tokens {
	my ($self, $t, $n) = @_;
	my $path = "$self->{dir}/tokens.$n";

	return $path if -s $path;
	open my $fh, '>', $path or die "$path: $!";
	print $fh $t->token("bench-$_"), "\n" for 1 .. $n;
	close $fh;
	return $path;
}

sub _descriptors {
	my $n = `sh -c 'ulimit -Hn'`;
	return $n =~ /^(\d+)/ ? $1 : 1_000_000;
}

sub DESTROY {
	my ($self) = @_;
	local ($?, $!, $@);
	delete $self->{pg};
	require File::Path;
	File::Path::remove_tree($self->{dir});
}

1;
