# One conversation, as a person has it with the demo model: create, list, rename, complete, "mark the first one done", delete.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Contract;
use Parley::Test;

my $t = Parley::Test->new;
my ($id, $turn, $waits);

# Says it; checks the tools that ran, in order, and returns the answer.
sub say_ {
	my ($message, @tools) = @_;
	my $r = $t->chat('alice', $message, $id ? (conversation_id => $id) : ());
	is $r->{status}, 200, $message or diag $r->{body};
	body_ok($r->{json}, $message);
	$id = $r->{json}{conversation_id};
	is $r->{json}{turn}, $waits ? $turn : ++$turn, $waits ? '... answers the question' : '... is the next turn';
	$waits = $r->{json}{status} eq 'approval_required';
	is_deeply [map { $_->{tool_name} } @{$r->{json}{tool_calls}}], \@tools, "... runs: @tools"
	    or diag $r->{json}{response};
	is_deeply [grep { $_->{is_error} } @{$r->{json}{tool_calls}}], [], '... without an error';
	return $r->{json};
}

sub tasks {
	return join ', ', map { "$_->{id} $_->{title} $_->{status}" } @{$t->pg->rows("SELECT * FROM tasks.tasks WHERE user_id = 'alice' ORDER BY id")};
}

my $r = say_('Hello, my name is Ada');
$r = say_('Add task: Buy milk', 'add_task');
is_deeply $r->{tool_calls}[0]{parameters}, { title => 'Buy milk' }, 'the title is what was said';
is $r->{tool_calls}[0]{result}{status}, 'created', 'it was created';
like $r->{response}, qr/Buy milk/, 'the answer names it';
say_('add task: Call mum', 'add_task');
say_('add task: Read a book', 'add_task');
is tasks(), '1 Buy milk pending, 2 Call mum pending, 3 Read a book pending', 'three tasks';

$r = say_('show my tasks', 'list_tasks');
like $r->{response}, qr/Read a book.*Call mum.*Buy milk/s, 'the list, newest first';

$r = say_('complete walk the dog', 'list_tasks');
like $r->{response}, qr/Buy milk/, 'what is not there: the list is shown';
$r = say_('What is my name?');
like $r->{response}, qr/\bAda\b/, 'the name told at the beginning is remembered';

$r = say_('rename call mum to Call mum and dad', 'list_tasks', 'update_task');
is $r->{tool_calls}[1]{result}{previous}{title}, 'Call mum', 'the old title is in the result';
like $r->{response}, qr/Call mum and dad/, 'the new one in the answer';

say_('complete buy milk', 'list_tasks', 'complete_task');
is tasks(), '1 Buy milk completed, 2 Call mum and dad pending, 3 Read a book pending', 'found by its title in any case';
say_('complete task 2', 'complete_task');

$r = say_('show my tasks', 'list_tasks');
my ($first) = map { $_->{title} } @{$r->{tool_calls}[0]{result}{tasks}};
is $first, 'Read a book', 'the first of the list that was shown';
$r = say_('mark the first one done', 'list_tasks', 'complete_task');
is tasks(), '1 Buy milk completed, 2 Call mum and dad completed, 3 Read a book completed', '... is the one that is marked';

$r = say_('delete call mum', 'list_tasks', 'delete_task');
is $r->{response}, 'Delete the task "Call mum and dad"?', 'before it is deleted, the user is asked';
like tasks(), qr/Call mum and dad/, '... and nothing has gone';
$r = $t->chat('alice', 'no', conversation_id => $id)->{json};
is "$r->{turn} $r->{response}", qq{$turn All right, I've kept "Call mum and dad".}, 'a no is told to the model';
like tasks(), qr/Call mum and dad/, '... and leaves it';
$waits = 0;
say_('delete call mum', 'list_tasks', 'delete_task');
$r = say_('yes', 'list_tasks', 'delete_task');
is $r->{tool_calls}[1]{result}{task}{title}, 'Call mum and dad', 'a yes deletes it: the row as it was';
is tasks(), '1 Buy milk completed, 3 Read a book completed', '... and only it';

# What it does in the end, and what it says in which order.
my @events = $t->stream('alice', 'add task: Water the plants, then show my tasks', conversation_id => $id);
$turn++;
my @steps = grep { /^tool_/ } map { $_->{event} } @events;
is "@steps", 'tool_call tool_result tool_call tool_result', 'two steps, one after the other';
is join(' ', map { $_->{data}{tool_name} } grep { $_->{event} eq 'tool_call' } @events), 'add_task list_tasks', '... in the order given';
is $events[-1]{event}, 'done', '... and it ends';
like $events[-1]{data}{response}, qr/Water the plants/, '... with an answer to both';
my $said = join '', map { $_->{event} eq 'tool_result' ? "\0" : $_->{event} eq 'delta' ? $_->{data}{text} : '' } @events;
is +(split /\0/, $said)[-1], $events[-1]{data}{response}, 'what was streamed is what is stored';

my $page = $t->get("/api/conversations/$id?limit=100", user => 'alice')->{json};
is $page->{conversation}{turns}, $turn, 'all turns are in the conversation';
is $page->{conversation}{title}, 'Hello, my name is Ada', 'its title is its first message';
is_deeply [grep { $_->{turn_state} ne 'done' } @{$page->{messages}}], [], '... and done';

done_testing;
