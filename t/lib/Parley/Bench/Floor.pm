package Parley::Bench::Floor;

# The floor: what PostgreSQL alone does with the two statements of a turn.
#
#	my $floor = Parley::Bench::Floor->new($bench);	# listens to the worker for one turn
#	$floor->turns_per_second($clients, $seconds, 'new'|'same');
#
# The statements and their parameters are those that a worker was seen to send, taken
# from the log of PostgreSQL: they cannot drift apart from the code.  Only what differs from turn to
# turn is replaced: the user, the ids, and in the second statement what the first one has returned.
# pgbench sends them by name (-M prepared), as the worker does, from the worker's role, over the same
# kind of socket.

use strict;
use warnings;

sub new {
	my ($class, $bench) = @_;
	my $self = bless { bench => $bench, pg => $bench->pg }, $class;

	$self->{pg}->do(q{ALTER ROLE parley_worker SET log_statement = 'all'});
	my $t = $bench->serve(0);
	my $r = $t->chat('bench-1', 'bench 1');
	die "no turn: $r->{status} $r->{body}" unless $r->{status} == 200;
	$self->{pg}->do('ALTER ROLE parley_worker RESET log_statement');
	# What is connected would go on writing all that it is told into the log, and be measured doing it.
	$self->{pg}->do(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'parley_worker'});
	$self->_listen;
	return $self;
}

sub turns_per_second {
	my ($self, $clients, $seconds, $how) = @_;
	my $pg = $self->{pg};
	my @script = $self->_script($how);
	my @define = map { ('-D', "$_=$self->{define}{$_}") } sort keys %{$self->{define}};

	open my $out, '-|', $pg->bindir . '/pgbench', '-n', '-M', 'prepared', '-f', $script[0],
	    '-c', $clients, '-j', $clients < 4 ? $clients : 4, '-T', $seconds, @define, $pg->url('parley_worker')
	    or die "pgbench: $!";
	my $said = do { local $/; <$out> };
	close $out;
	$said =~ /tps = ([0-9.]+) \(without/ or die "pgbench: $said";
	return $1;
}

# The two statements out of the log.
sub _listen {
	my ($self) = @_;
	open my $fh, '<', $self->{pg}->log or die 'log of PostgreSQL: ' . $!;
	my ($name, %sql, %param);

	while (<$fh>) {
		if (/LOG:  execute \S+: (.*parley\.turn_(begin|end)\(.*)/) {
			($name, $sql{$2}) = ($2, $1);
		} elsif ($name && /DETAIL:  parameters: (.*)/) {
			my $list = $1;
			$param{$name}{$1} = $2 while $list =~ /\$(\d+) = (NULL|'(?:[^']|'')*')/g;
			undef $name;
		}
	}
	for (qw(begin end)) {
		die "no turn_$_ was seen in the log of PostgreSQL" unless $sql{$_} && $param{$_};
	}
	@$self{qw(sql param)} = (\%sql, \%param);
}

# A file for pgbench.  What does not change is a variable, so that it travels as a parameter.
sub _script {
	my ($self, $how) = @_;
	my $user = q{('bench-' || (:client_id + 1))};
	my $same = q{('00000000-0000-4000-8000-' || lpad(text(:client_id), 12, '0'))::uuid};
	my %own = (
		# user, conversation, its id if it is new, whether it may be, the message's id
		begin => { 1 => $user, 3 => 'gen_random_uuid()', 5 => 'gen_random_uuid()',
			$how eq 'same' ? (2 => $same, 3 => $same, 4 => 'true') : () },
		# user, conversation, turn, run, fence; the reply's id
		end => { 1 => $user, 2 => ':conversation_id', 3 => ':turn', 4 => ':run', 5 => ':fence', 10 => 'gen_random_uuid()' },
	);
	my $file = "$self->{bench}{dir}/$how.sql";

	open my $fh, '>', $file or die "$file: $!";
	for my $name (qw(begin end)) {
		my $sql = $self->{sql}{$name} =~ s/\$(\d+)(?!\d)/$own{$name}{$1} \/\/ $self->_value($name, $1)/ger;
		print $fh "$sql ", $name eq 'begin' ? "\\aset\n" : ";\n";
	}
	close $fh;
	return $file;
}

sub _value {
	my ($self, $name, $n) = @_;
	my $value = $self->{param}{$name}{$n} // die "turn_$name: no parameter $n";

	return 'NULL' if $value eq 'NULL';
	$value =~ s/^'(.*)'$/$1/s;
	$value =~ s/''/'/g;
	$self->{define}{"${name}_$n"} = $value;
	return ":${name}_$n";
}

1;
