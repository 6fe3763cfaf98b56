package Parley::SQL;

# The functions of the schema, called as the worker calls them, for tests of the rules that they keep.
#
#	my $db = Parley::SQL->new($pg);
#	my $turn = $db->begin('alice', 'hello');		# { outcome, conversation_id, turn, …, history => [rows] }
#	$db->step($turn, [['add_task', { title => 'x' }]]);
#	$db->run($turn, 1, 0);
#	$db->end($turn, 'done', 'Hi');
#
# Errors die with an object of two fields: state (SQLSTATE) and message; failed() catches them.

use strict;
use warnings;

use JSON::XS ();

my $JSON = JSON::XS->new->canonical->allow_nonref;
my $made = 0;

sub new {
	my ($class, $pg, %opt) = @_;
	my $self = bless { pg => $pg, dbh => $pg->dbh($opt{role} // 'parley_worker') }, $class;
	$self->{dbh}{HandleError} = sub { die Parley::SQL::Error->new($_[1]->state, $_[0]) };
	return $self;
}

sub dbh { $_[0]{dbh} }

sub uuid {
	return sprintf '%08x-0000-4000-8000-%012x', $$, ++$made;
}

sub one {
	my ($self, $sql, @bind) = @_;
	return scalar $self->{dbh}->selectrow_array($sql, undef, @bind);
}

sub rows {
	my ($self, $sql, @bind) = @_;
	return $self->{dbh}->selectall_arrayref($sql, { Slice => {} }, @bind);
}

# The SQLSTATE it dies with, or ''.
sub failed {
	my ($code) = @_;
	return '' if eval { $code->(); 1 };
	return ref $@ ? $@->{state} : "not SQL: $@";
}

our $BEGIN = 'SELECT * FROM parley.turn_begin(?::text, ?::uuid, ?::uuid, ?::boolean, ?::uuid, ?::text, ?::text,'
    . ' ?::boolean, ?::text, ?::text, ?::text, ?::boolean, ?::text[], ?::int, ?::int, ?::int, ?::int, ?::int, ?::int, ?::bigint, ?::bigint, ?::text)';

# yes ('t' or 'f'), on_busy, key, hash, again and the limits as the function has them; what is left out is as the worker sends it.
sub begin_bind {
	my ($user, $content, %o) = @_;
	return ($user, $o{conversation}, $o{new} // uuid(), $o{create} ? 't' : 'f', $o{message} // uuid(), $content, $o{zone},
	    $o{yes}, $o{on_busy} // 'queue', $o{key}, $o{hash}, $o{again} ? 't' : 'f',
	    $o{holds} // [], $o{messages} // 50, $o{tokens} // 24000, $o{deadline} // 100000,
	    $o{max_turns} // 256, $o{max_queued} // 128, _limits(%o));
}

# per_minute, per_day, call_tokens and trace, as turn_begin and turn_retry have them.
sub _limits {
	my (%o) = @_;
	return ($o{per_minute} // 0, $o{per_day} // 0, $o{call_tokens} // 0, $o{trace});
}

sub begin {
	my ($self, $user, $content, %o) = @_;
	return _turn($user, $self->rows($BEGIN, begin_bind($user, $content, %o)));
}

# What turn_begin, turn_take, turn_retry and turn_load return, as one turn; next is the place of its next message.
sub _turn {
	my ($user, $rows) = @_;
	return { user => $user, history => [], outcome => 'none' } unless @$rows;
	return { %{$rows->[-1]}, user => $user, history => $rows, next => ($rows->[-1]{idx} // 0) + 1 };
}

sub take {
	my ($self, $turn, %o) = @_;
	return _turn($turn->{user}, $self->rows('SELECT * FROM parley.turn_take(?::text, ?::uuid, ?::int, ?::bigint, ?::int,'
	    . ' ?::int, ?::boolean, ?::int, ?::text[], ?::int, ?::int)', @$turn{qw(user conversation_id turn fence)},
	    $o{lease} // 15000, $o{max_attempts} // 3, $o{next} // 1 ? 't' : 'f', $o{deadline} // 100000, [], 50, 24000));
}

sub load {
	my ($self, $turn) = @_;
	return _turn($turn->{user}, $self->rows('SELECT * FROM parley.turn_load(?::text, ?::uuid, ?::int, ?::bigint,'
	    . ' ?::text[], ?::int, ?::int)', @$turn{qw(user conversation_id turn fence)}, [], 50, 24000));
}

sub retry {
	my ($self, $turn, %o) = @_;
	return _turn($turn->{user}, $self->rows('SELECT * FROM parley.turn_retry(?::text, ?::uuid, ?::int, ?::boolean, ?::text, ?::text,'
	    . ' ?::text[], ?::int, ?::int, ?::int, ?::int, ?::int, ?::bigint, ?::bigint, ?::text)', @$turn{qw(user conversation_id turn)},
	    $o{supersede} ? 't' : 'f', $o{key} // ' ' . uuid(),
	    $o{hash} // '', [], 50, 24000, $o{deadline} // 100000, $o{max_turns} // 256, _limits(%o)));
}

sub release {
	my ($self, $turn) = @_;
	$self->rows('SELECT parley.turn_release(?::text, ?::uuid, ?::int, ?::int, ?::bigint)', key($turn));
}

# { outcome, next_turn, next_run, next_fence }
sub cancel {
	my ($self, $turn, %o) = @_;
	return $self->rows('SELECT * FROM parley.turn_cancel(?::text, ?::uuid, ?::int, ?::boolean, ?::int)',
	    @$turn{qw(user conversation_id turn)}, $o{next} // 1 ? 't' : 'f', 100000)->[0];
}

# Running turns of anybody without a living worker, as "user turn fence".
sub expired {
	my ($self, %o) = @_;
	return [map { "$_->{user_id} $_->{turn} $_->{fence}" }
	    @{$self->rows('SELECT * FROM parley.turns_expired(?::int, ?::int, ?::boolean)',
	    $o{lease} // 15000, $o{max} // 100, $o{orphans} ? 't' : 'f')}];
}

# The rows of turn_read.
sub read {
	my ($self, $turn, $text) = @_;
	return $self->rows('SELECT * FROM parley.turn_read(?::text, ?::uuid, ?::int, ?::boolean)',
	    @$turn{qw(user conversation_id turn)}, $text ? 't' : 'f');
}

sub key {
	my ($turn) = @_;
	return @$turn{qw(user conversation_id turn run fence)};
}

# calls: [name, arguments] each; arguments may be JSON text
sub step {
	my ($self, $turn, $calls, %o) = @_;
	my @calls = map { {
		id => uuid(), call_id => "call_$_", tool_name => $calls->[$_][0],
		parameters => ref $calls->[$_][1] ? $calls->[$_][1] : $JSON->decode($calls->[$_][1]),
		broken => undef, confirm => $o{confirm} ? JSON::XS::true : JSON::XS::false,
	} } 0 .. $#$calls;
	my $idx = $o{idx} // $turn->{next};
	my $row = $self->rows('SELECT * FROM parley.turn_step(?::text, ?::uuid, ?::int, ?::int, ?::bigint, ?::int, ?::uuid,'
	    . ' ?::text, ?::json, ?::text, ?::text, ?::bigint, ?::bigint, ?::json, ?::boolean, ?::bigint, ?::bigint)',
	    key($turn), $idx, $o{id} // uuid(), $o{content} // '', '{"role":"assistant"}', 'http://m model', 'model',
	    $o{input} // 10, $o{output} // 5, $JSON->encode(\@calls), $o{estimated} ? 't' : 'f', $o{per_day} // 0,
	    $o{next_tokens} // 0)->[0];
	$turn->{next} = $idx + 1;
	$turn->{budget_ms} = $row->{budget_ms};
	return $row->{created_at};
}

sub run {
	my ($self, $turn, $idx, $pos, $max) = @_;
	return $self->rows('SELECT * FROM parley.tool_run(?::text, ?::uuid, ?::int, ?::int, ?::bigint, ?::int, ?::int,'
	    . ' ?::int)', key($turn), $idx, $pos, $max // 262144)->[0];
}

# The turn waits for the user's word on these places of its last step.
sub ask {
	my ($self, $turn, $idx, $positions, %o) = @_;
	return $self->rows('SELECT * FROM parley.turn_ask(?::text, ?::uuid, ?::int, ?::int, ?::bigint, ?::int, ?::int[],'
	    . ' ?::text[], ?::bigint)', key($turn), $idx, $positions, [map { "May I do $_?" } @$positions], $o{expire} // 86400000);
}

# decisions: { call id => 't' or 'f' }
sub decide {
	my ($self, $turn, $decisions, %o) = @_;
	my @ids = sort keys %$decisions;
	return _turn($o{user} // $turn->{user}, $self->rows('SELECT * FROM parley.turn_decide(?::text, ?::uuid, ?::uuid[],'
	    . ' ?::boolean[], ?::text, ?::text, ?::text[], ?::int, ?::int)', $o{user} // $turn->{user}, $turn->{conversation_id},
	    \@ids, [@$decisions{@ids}], $o{key} // ' ' . uuid(), $o{hash} // '', [], 50, 24000));
}

sub answer {
	my ($self, $turn, $idx, $pos, $result, $is_error) = @_;
	return $self->rows('SELECT * FROM parley.tool_answer(?::text, ?::uuid, ?::int, ?::int, ?::bigint, ?::int,'
	    . ' ?::int, ?::json, ?::boolean)', key($turn), $idx, $pos, $result, $is_error ? 't' : 'f')->[0];
}

# content undef: no reply.  When it ended; end_row says also what is next.
sub end { return $_[0]->end_row(@_[1 .. $#_])->{ended_at} }

sub end_row {
	my ($self, $turn, $state, $content, %o) = @_;
	return $self->rows('SELECT * FROM parley.turn_end(?::text, ?::uuid, ?::int, ?::int, ?::bigint, ?::text, ?::text, ?::text,'
	    . ' ?::int, ?::uuid, ?::text, ?::json, ?::text, ?::boolean, ?::text, ?::bigint, ?::bigint, ?::json,'
	    . ' ?::boolean, ?::int, ?::boolean)',
	    key($turn), $state, $o{error_code}, $o{sentence}, $turn->{next}, defined $content ? $o{id} // uuid() : undef,
	    $content, '{"role":"assistant"}', 'http://m model', $o{interrupted} ? 't' : 'f', 'model', $o{input} // 20, $o{output} // 10,
	    '{}', $o{next} // 1 ? 't' : 'f', 100000, $o{estimated} ? 't' : 'f')->[0];
}

# A whole turn without tools.
sub talk {
	my ($self, $user, $content, $reply, %o) = @_;
	my $turn = $self->begin($user, $content, %o);
	$self->end($turn, 'done', $reply) if $turn->{outcome} eq 'begun';
	return $turn;
}

# One tool call in a turn of its own; its result decoded, with is_error beside it.
sub tool {
	my ($self, $user, $name, $arguments) = @_;
	my $turn = $self->begin($user, "call $name");
	$self->step($turn, [[$name, $arguments // {}]]);
	my $row = $self->run($turn, 1, 0);
	$self->end($turn, 'done', 'ok');
	return ($JSON->decode($row->{result}), $row->{is_error}, $row);
}

# A heartbeat for turns: [place, say] of those that must stop.  partial is the text of the message idx.
sub pulse {
	my ($self, $lease, @turns) = @_;
	return [map { [@$_{qw(place say)}] } grep { !$_->{watched} } @{$self->_pulse($lease, \@turns, [])}];
}

# The digests of turns, text and seen in each: [place, say] of those that have changed.
sub watch {
	my ($self, @turns) = @_;
	return [map { [@$_{qw(place say)}] } grep { $_->{watched} } @{$self->_pulse(15000, [], \@turns)}];
}

sub _pulse {
	my ($self, $lease, $own, $watched) = @_;
	my $column = sub { my ($k, $turns, $else) = @_; [map { $_->{$k} // $else } @$turns] };
	return $self->rows('SELECT * FROM parley.pulse(?::int, ?::text[], ?::uuid[], ?::int[], ?::bigint[], ?::int[], ?::text[],'
	    . ' ?::text[], ?::uuid[], ?::int[], ?::boolean[], ?::text[])', $lease,
	    (map { $column->($_, $own) } qw(user conversation_id turn fence next partial)),
	    (map { $column->($_, $watched) } qw(user conversation_id turn)),
	    $column->('text', $watched, 'f'), $column->('seen', $watched, ''));
}

package Parley::SQL::Error;

use overload '""' => sub { "$_[0]{message} ($_[0]{state})" }, fallback => 1;

sub new {
	my ($class, $state, $message) = @_;
	return bless { state => $state, message => $message }, $class;
}

1;
