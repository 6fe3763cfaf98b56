package Parley::Eval;

# How well the assistant understands: commands from t/eval/*.eval, said to a running Parley, and what came of them.
#
#	my @cases = Parley::Eval::cases('english');	# all files without a name
#	my $r = Parley::Eval::try_case($t, $case);	# { good, got, said }
#	my @r = Parley::Eval::try_all($t, \@cases, 8);	# in their order, so many at a time
#
# A case is a line: kind | tasks | messages | calls.  Tasks are separated by ; and those that are done end with *.  Messages
# are said one after another in one conversation, // between them.  Calls, in this order and no other that changes anything:
#
#	add "title" ["description"]	rename "old" "new"	describe "title" "text"
#	done "title"	delete "title"	(also while it waits for the user's yes)
#	list [pending|completed]	somebody looked, and nothing else was wanted
#	nothing		no tool changed anything, whatever was said
#	ask		the same, and the answer is a question
#
# "any order: " before them says what it says.  Looking things up is free.  Titles are compared without case, quotes and the dot at their end.

use strict;
use warnings;
use utf8;

use Cwd ();
use File::Basename ();
use JSON::XS ();

my $DIR = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../eval');
my $JSON = JSON::XS->new->canonical->allow_nonref;

sub cases {
	my @files = @_ ? map { "$DIR/$_.eval" } @_ : glob "$DIR/*.eval";
	my @cases;
	for my $file (@files) {
		open my $fh, '<:encoding(UTF-8)', $file or die "$file: $!";
		while (my $line = <$fh>) {
			next if $line =~ /^#|^\s*$/;
			chomp $line;
			my ($kind, $tasks, $messages, $calls) = map { s/^\s+|\s+$//gr } split /\|/, $line, -1;
			die "$file:$.: not four parts" unless defined $calls;
			push @cases, { language => File::Basename::basename($file, '.eval'), kind => $kind,
			    tasks => [grep { length } split /\s*;\s*/, $tasks], messages => [split m{\s*//\s*}, $messages],
			    want => $calls };
		}
	}
	return @cases;
}

# -- one case

my $users = 0;

sub try_case {
	my ($t, $case) = @_;
	my $try = _begin($t, $case);
	while (my $message = shift @{$try->{left}}) {
		_heard($try, _say($t, $try, $message)->response);
	}
	return _judge($t, $try);
}

# Many at a time: each conversation goes on when its answer is there.
sub try_all {
	my ($t, $cases, $jobs) = @_;
	my @tries = map { _begin($t, $_) } @$cases;
	my @waiting = @tries;
	my @running;

	while (@waiting || @running) {
		while (@running < $jobs && @waiting) {
			my $try = shift @waiting;
			$try->{client} = _say($t, $try, shift @{$try->{left}});
			push @running, $try;
		}
		my $try = shift @running;
		_heard($try, (delete $try->{client})->response);
		unshift @waiting, $try if @{$try->{left}};
	}
	return map { _judge($t, $_) } @tries;
}

sub _begin {
	my ($t, $case) = @_;
	my $try = { case => $case, user => "eval-$$-" . ++$users, left => [@{$case->{messages}}], calls => {}, order => [], said => [] };
	my $sql = "SET parley.user_id = '$try->{user}';\n";
	for my $i (1 .. @{$case->{tasks}}) {
		my $title = $case->{tasks}[$i - 1] =~ s/'/''/gr;
		my $done = $title =~ s/\*$//;
		$sql .= "SELECT tools.add_task('$title');\n" . ($done ? "SELECT tools.complete_task($i);\n" : '');
	}
	$t->pg->psql($sql, 'postgres') if @{$case->{tasks}};
	return $try;
}

sub _say {
	my ($t, $try, $message) = @_;
	return $t->begin_chat($try->{user}, $message, $try->{id} ? (conversation_id => $try->{id}) : ());
}

# Calls are known by their ids: a turn that goes on after a yes tells them again.
sub _heard {
	my ($try, $r) = @_;
	my $j = ref $r->{json} eq 'HASH' ? $r->{json} : {};
	$try->{id} //= $j->{conversation_id};
	for my $call (@{$j->{tool_calls} // []}, @{$j->{approvals_required} // []}) {
		push @{$try->{order}}, $call->{id} unless $try->{calls}{$call->{id}};
		$try->{calls}{$call->{id}} = $call if !$try->{calls}{$call->{id}} || exists $call->{result};
	}
	push @{$try->{said}}, $j->{response} // "$r->{status} " . ($j->{message} // 'no answer');
	$try->{status} = $j->{status};
}

# -- what came of it, in the words of the file

sub _judge {
	my ($t, $try) = @_;
	my %title = map { $_->{id} => $_->{title} } @{_tasks($t, $try)};
	my @got;
	for my $call (map { $try->{calls}{$_} } @{$try->{order}}) {
		my $words = _words($call, \%title);
		push @got, $words if defined $words;
	}
	my $good = _fits($try, @got);
	return { case => $try->{case}, good => $good, got => join(', ', @got) || 'nothing', said => join(' // ', @{$try->{said}}) };
}

# The titles that tasks had first: those that are there now are undone to what update_task found.
sub _tasks {
	my ($t, $try) = @_;
	my $i = 0;
	return [map { my $title = $_ =~ s/\*$//r; { id => ++$i, title => $title } } @{$try->{case}{tasks}}];
}

sub _quoted {
	my ($text) = @_;
	return '"' . ($text // '?') . '"';
}

sub _words {
	my ($call, $title) = @_;
	my ($name, $p, $r) = @$call{qw(tool_name parameters result)};
	my $id = $p->{task_id} // '';
	my $which = $title->{$id};

	# What a tool refused has changed nothing; a call that waits for a yes, or was told no, was asked for all the same.
	return if $call->{is_error} && $name ne 'delete_task';
	return 'list' . (($p->{status} // 'all') eq 'all' ? '' : " $p->{status}") if $name eq 'list_tasks';
	if ($name eq 'add_task') {
		$title->{$r->{task_id}} = $r->{title} if ref $r eq 'HASH' && defined $r->{task_id};
		return 'add ' . _quoted($p->{title}) . (length($p->{description} // '') ? ' ' . _quoted($p->{description}) : '');
	}
	if ($name eq 'update_task') {
		my @did;
		if (defined $p->{title} && ($which // '') ne $p->{title}) {
			push @did, 'rename ' . _quoted($which) . ' ' . _quoted($p->{title});
			$title->{$id} = $p->{title};
		}
		push @did, 'describe ' . _quoted($which) . ' ' . _quoted($p->{description}) if length($p->{description} // '');
		return join(', ', @did) || 'rename nothing';
	}
	return if $name eq 'delete_task' && !defined $which;
	return 'done ' . _quoted($which) if $name eq 'complete_task';
	return 'delete ' . _quoted($which) if $name eq 'delete_task';
	return $name;
}

sub _plain {
	my ($text) = @_;
	$text = lc $text;
	$text =~ s/[“”„"'‘’]//g;
	$text =~ s/[.!?۔؟]+(?=\s|$|,)//g;
	$text =~ s/\s+/ /g;
	return $text;
}

sub _fits {
	my ($try, @got) = @_;
	my $want = $try->{case}{want};
	my @did = grep { !/^list/ } @got;
	my @looked = grep { /^list/ } @got;

	return 0 if !defined $try->{status} || $try->{status} eq 'error';
	return !@did if $want eq 'nothing';
	return !@did && $try->{said}[-1] =~ /[?؟]/ if $want eq 'ask';
	my $any = $want =~ s/^any order: //;
	my @want = split /, (?=(?:add|done|rename|describe|delete|list)\b)/, $want;
	my @should = grep { !/^list/ } @want;
	for my $look (grep { /^list/ } @want) {
		return 0 unless grep { $_ eq $look } @looked;
	}
	@$_ = sort map { _plain($_) } @$_ for $any ? (\@did, \@should) : ();
	return _plain(join ', ', @did) eq _plain(join ', ', @should);
}

1;
