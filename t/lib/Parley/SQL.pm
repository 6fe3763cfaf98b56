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
    . ' ?::text[], ?::int, ?::int, ?::int, ?::int)';

sub begin_bind {
	my ($user, $content, %o) = @_;
	return ($user, $o{conversation}, $o{new} // uuid(), $o{create} ? 't' : 'f', uuid(), $content, $o{zone},
	    $o{holds} // [], $o{messages} // 50, $o{tokens} // 24000, $o{deadline} // 100000, $o{lease} // 15000);
}

sub begin {
	my ($self, $user, $content, %o) = @_;
	my $rows = $self->rows($BEGIN, begin_bind($user, $content, %o));
	return { %{$rows->[-1]}, user => $user, history => $rows, next => 1 };
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
		broken => undef,
	} } 0 .. $#$calls;
	my $idx = $o{idx} // $turn->{next};
	my $at = $self->one('SELECT parley.turn_step(?::text, ?::uuid, ?::int, ?::int, ?::bigint, ?::int, ?::uuid,'
	    . ' ?::text, ?::json, ?::text, ?::text, ?::bigint, ?::bigint, ?::json)', key($turn), $idx,
	    $o{id} // uuid(), $o{content} // '', '{"role":"assistant"}', 'http://m model', 'model', 10, 5,
	    $JSON->encode(\@calls));
	$turn->{next} = $idx + 1;
	return $at;
}

sub run {
	my ($self, $turn, $idx, $pos, $max) = @_;
	return $self->rows('SELECT * FROM parley.tool_run(?::text, ?::uuid, ?::int, ?::int, ?::bigint, ?::int, ?::int,'
	    . ' ?::int)', key($turn), $idx, $pos, $max // 262144)->[0];
}

sub answer {
	my ($self, $turn, $idx, $pos, $result, $is_error) = @_;
	return $self->rows('SELECT * FROM parley.tool_answer(?::text, ?::uuid, ?::int, ?::int, ?::bigint, ?::int,'
	    . ' ?::int, ?::json, ?::boolean)', key($turn), $idx, $pos, $result, $is_error ? 't' : 'f')->[0];
}

# content undef: no reply
sub end {
	my ($self, $turn, $state, $content, %o) = @_;
	return $self->one('SELECT parley.turn_end(?::text, ?::uuid, ?::int, ?::int, ?::bigint, ?::text, ?::text, ?::text,'
	    . ' ?::int, ?::uuid, ?::text, ?::json, ?::text, ?::boolean, ?::text, ?::bigint, ?::bigint, ?::json)',
	    key($turn), $state, $o{error_code}, $o{sentence}, $turn->{next}, defined $content ? uuid() : undef,
	    $content, '{"role":"assistant"}', 'http://m model', $o{interrupted} ? 't' : 'f', 'model', 20, 10, '{}');
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

sub pulse {
	my ($self, $lease, @turns) = @_;
	return $self->rows('SELECT * FROM parley.pulse(?::int, ?::text[], ?::uuid[], ?::int[], ?::bigint[], ?::text[])',
	    $lease, map { my $k = $_; [map { $_->{$k} } @turns] } qw(user conversation_id turn fence partial));
}

package Parley::SQL::Error;

use overload '""' => sub { "$_[0]{message} ($_[0]{state})" }, fallback => 1;

sub new {
	my ($class, $state, $message) = @_;
	return bless { state => $state, message => $message }, $class;
}

1;
