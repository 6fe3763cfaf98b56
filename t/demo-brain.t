# The demo model in conversation: over HTTP, with messages as a client sends
# them and tools that behave like schema/tools-tasks.sql.
use strict;
use warnings;
use utf8;
use lib 't/lib';
use HTTP::Tiny;
use JSON::XS;
use Parley::Model;
use Test::More;

binmode $_, ':utf8' for Test::More->builder->output, Test::More->builder->failure_output;

my $model = Parley::Model->new;
my $http  = HTTP::Tiny->new(timeout => 20, keep_alive => 0);
my $json  = JSON::XS->new->utf8->canonical;
my @names = qw(add_task list_tasks update_task complete_task delete_task);

# A conversation with one user's tasks.
sub chat {
	my (%o) = @_;
	return { messages => [{ role => 'system', content => $o{system} // 'You are a task assistant.' }],
	    tasks => [], next => 1, tools => $o{tools} // \@names, fail => {} };
}

# Says something; runs the tools until there is an answer.  The calls are kept.
sub say_to {
	my ($c, $text) = @_;
	my $m = $c->{messages};

	push @$m, { role => 'user', content => $text };
	$c->{calls} = [];
	$c->{progress} = [];
	for (1 .. 10) {
		my $res = $http->post($model->url . '/chat/completions', { content => $json->encode({
		    model => 'demo', messages => $m, @{ $c->{tools} } ? (tools => [map {
			{ type => 'function', function => { name => $_, parameters => {} } }
		    } @{ $c->{tools} }]) : () }) });
		die "$text: $res->{status} $res->{content}" unless $res->{success};
		my $said = $json->decode($res->{content})->{choices}[0]{message};
		push @$m, $said;
		return $c->{said} = $said->{content} unless $said->{tool_calls};
		push @{ $c->{progress} }, $said->{content} if defined $said->{content};
		for my $call (@{ $said->{tool_calls} }) {
			my $args = $json->decode(do { my $t = $call->{function}{arguments}; utf8::encode($t); $t });
			push @{ $c->{calls} }, [$call->{function}{name}, $args];
			my $result = run_tool($c, $call->{function}{name}, $args);
			my $out = $json->encode($result);
			utf8::decode($out);
			$out = substr $out, 0, $c->{cut} if $c->{cut};
			push @$m, { role => 'tool', tool_call_id => $call->{id}, content => $out };
		}
		push @$m, { role => 'user', content => $c->{word} } if $c->{word} && $said->{tool_calls}[0]{function}{name} eq 'delete_task';
	}
	die "$text: no answer after ten steps";
}

sub run_tool {
	my ($c, $name, $a) = @_;
	my ($t) = grep { $_->{id} == ($a->{task_id} // 0) } @{ $c->{tasks} };
	my $row = sub { { task_id => $_[0]{id}, status => $_[1], title => $_[0]{title}, task => { %{ $_[0] } } } };

	return { error => $c->{fail}{$name} } if $c->{fail}{$name};
	if ($name eq 'list_tasks') {
		my $s = $a->{status} // 'all';
		return { tasks => [grep { $s eq 'all' || $_->{status} eq $s } @{ $c->{tasks} }] };
	}
	if ($name eq 'add_task') {
		return { error => 'Title must be 255 characters or less.' } if length $a->{title} > 255;
		unshift @{ $c->{tasks} }, { id => $c->{next}++, title => $a->{title},
		    description => $a->{description}, status => 'pending' };
		return $row->($c->{tasks}[0], 'created');
	}
	return { error => "There is no task $a->{task_id}." } unless $t;
	if ($name eq 'complete_task') {
		$t->{status} = 'completed';
		return $row->($t, 'completed');
	}
	if ($name eq 'update_task') {
		my %old = map { $_ => $t->{$_} } qw(title description);
		$t->{$_} = $a->{$_} for grep { exists $a->{$_} } qw(title description);
		return { %{ $row->($t, 'updated') }, previous => \%old };
	}
	$c->{tasks} = [grep { $_ != $t } @{ $c->{tasks} }];
	return $row->($t, 'deleted');
}

sub with_tasks {
	my $c = chat();
	run_tool($c, 'add_task', { title => $_ }) for @_;
	return $c;
}

sub calls  { join ' ', map { $_->[0] } @{ $_[0]{calls} } }
sub titles { join '|', map { $_->{title} . ($_->{status} eq 'completed' ? '*' : '') } @{ $_[0]{tasks} } }

# Each line: what is said => title|description that add_task gets.
subtest 'adding' => sub {
	my @rows = (
		'add task: Buy groceries'               => 'Buy groceries|',
		'Add task Buy groceries'                => 'Buy groceries|',
		'ADD TASK: BUY MILK'                    => 'BUY MILK|',
		'add a task to buy milk'                => 'buy milk|',
		'Add a new task called "Buy milk"'      => 'Buy milk|',
		'Please add a task: Call mom.'          => 'Call mom|',
		'Could you add a task to call Bob please?' => undef,
		'remember to pay the rent'              => 'pay the rent|',
		'I need to remember to pay bills'       => 'pay bills|',
		'remind me to water the plants'         => 'water the plants|',
		"don't forget to feed the cat"          => 'feed the cat|',
		'don’t forget to feed the cat'          => 'feed the cat|',
		'new task Read a book'                  => 'Read a book|',
		'New task: Read a book'                 => 'Read a book|',
		'create a task named Write report'      => 'Write report|',
		'create a todo: Fix bike'               => 'Fix bike|',
		'task: Fix bike'                        => 'Fix bike|',
		'add buy milk'                          => 'buy milk|',
		'add buy milk to my list'               => 'buy milk|',
		'add bread and butter'                  => 'bread and butter|',
		'add task: Buy eggs, milk and bread'    => 'Buy eggs, milk and bread|',
		'add a task to clean and remove dust'   => 'clean and remove dust|',
		'add task: Buy groceries - milk and eggs' => 'Buy groceries|milk and eggs',
		'add task: Buy groceries, description: milk and eggs' => 'Buy groceries|milk and eggs',
		'add task Buy groceries with description milk and eggs' => 'Buy groceries|milk and eggs',
		'add task "Buy groceries" with the description "milk and eggs"' => 'Buy groceries|milk and eggs',
		'add task “Read ‘Dune’ and then sleep”' => 'Read ‘Dune’ and then sleep|',
		'add task: Tür reparieren 🚪'           => 'Tür reparieren 🚪|',
		'add task: Buy milk!'                   => 'Buy milk!|',
		'add task: 50% off; buy it'             => '50% off; buy it|',
		'hi, can you add a task to call Ann'    => 'call Ann|',
		'add the following task: Ship it'       => 'Ship it|',
		'add "Zed" as a new task'               => 'Zed|',
		'add "X" - y'                           => 'X|y',
		'add "Dune" on the reading pile'        => '"Dune" on the reading pile|',
		'put eggs on my shopping list'          => 'eggs|',
	);
	while (my ($text, $want) = splice @rows, 0, 2) {
		my $c = chat();
		my $said = say_to($c, $text);
		if (!defined $want) {
			is calls($c), 'add_task', "\"$text\" adds something";
			next;
		}
		my ($title, $description) = split /\|/, $want, -1;
		is calls($c), 'add_task', "\"$text\" is one call";
		is_deeply $c->{calls}[0][1], { title => $title,
		    ($description ne '' ? (description => $description) : ()) }, '... with title and description';
		is $said, "I've added \"$title\".", '... confirmed in words';
	}
	my $c = chat();
	like say_to($c, 'add a task'), qr/^What should the task be called\?/, 'a missing title is asked for';
	is say_to($c, 'Buy stamps'), q{I've added "Buy stamps".}, '... and the answer is the title';
	say_to($c, 'add tasks: Milk, Bread and "Salt and pepper"');
	is titles($c), 'Salt and pepper|Bread|Milk|Buy stamps', 'several at once';
	say_to($c, 'Add "Eggs", "Jam" and "Salt"');
	is calls($c), 'add_task add_task add_task', 'several in quotes';
	like say_to($c, 'add task: ' . 'x' x 256), qr/255 characters.*shorter/, 'too long: a remedy';
};

subtest 'showing' => sub {
	my $c = with_tasks('Call Bob', 'Buy milk');
	$c->{tasks}[1]{status} = 'completed';
	$c->{tasks}[0]{description} = '2 litres';
	my %filter = (all => ['show my tasks', 'Show me my tasks', 'list tasks', 'list', 'my tasks', 'what are my tasks?',
		'show all tasks', 'show all', 'what tasks do I have?', 'display my todo list', 'show my list please',
		'do I have any tasks', 'How many tasks do I have?', 'SHOW TASKS', 'get my tasks', 'check my list',
		'Can you show me the list of tasks?', 'I want to see my tasks'],
	    pending => ["what's left", 'what’s left?', 'whats left', 'What is left to do?', 'show pending tasks',
		'show my open tasks', 'what do I have to do', 'what do I need to do?', "what's pending", 'list incomplete tasks',
		'show tasks that are not done', "which tasks aren't done yet?", 'show me what is left'],
	    completed => ["what's done", 'what is done?', 'show completed tasks', 'show done tasks', 'completed tasks',
		'what have I completed?', 'which tasks are finished?', 'list my completed tasks', 'what have I done']);
	for my $f (sort keys %filter) {
		for my $text (@{ $filter{$f} }) {
			say_to($c, $text);
			is_deeply $c->{calls}, [['list_tasks', { status => $f }]], "\"$text\" lists $f";
		}
	}
	is say_to($c, 'show my tasks'), "You have 2 tasks:\n1. Buy milk: 2 litres\n2. Call Bob (done)", 'the list';
	is say_to($c, 'show my tasks with ids'), "You have 2 tasks:\n1. Buy milk (id 2): 2 litres\n2. Call Bob (id 1) (done)",
	    'ids when asked for';
	like say_to(chat(), 'show my tasks'), qr/no tasks yet/, 'no tasks';
	like say_to(chat(), "what's left"), qr/Nothing is left/, 'nothing left';
};

subtest 'completing' => sub {
	for my $text ('complete buy milk', 'Complete Buy Milk', 'complete task buy milk', 'mark buy milk as done',
	    'mark "Buy milk" as completed', 'mark “buy milk” as complete', 'mark the milk task as done', 'buy milk is done',
	    'done with buy milk', "I'm done with buy milk", 'I’ve finished buy milk', 'finish buy milk', 'check off buy milk',
	    'tick buy milk off', 'complete MILK', 'please complete buy milk!', 'complete the task "buy milk"', 'done: buy milk',
	    'set buy milk to done', 'mark done buy milk', 'I have completed the buy milk task', 'Could you mark buy milk as done, please?') {
		my $c = with_tasks('Buy milk', 'Call Bob');
		is say_to($c, $text), q{I've marked "Buy milk" as done.}, "\"$text\"";
		is_deeply $c->{calls}, [['list_tasks', { status => 'all' }], ['complete_task', { task_id => 1 }]], '... found in the list';
	}
	my $c = with_tasks('Buy milk', 'Call Bob');
	is say_to($c, 'complete task 1'), q{I've marked "Buy milk" as done.}, 'by number';
	is_deeply $c->{calls}, [['complete_task', { task_id => 1 }]], '... at once';
	is say_to($c, 'complete buy milk'), '"Buy milk" is done already.', 'done already';
	like say_to($c, 'complete task 999'), qr/couldn't find a task with the number 999.*\n1\. Call Bob\n2\. Buy milk \(done\)$/s,
	    'no such number: what there is';
	like say_to($c, 'complete wash car'), qr/couldn't find a task that matches "wash car".*1\. Call Bob\n.*Which one/s,
	    'no such title: what there is, and the question';
	is say_to($c, '1'), q{I've marked "Call Bob" as done.}, '... answered by number';

	$c = with_tasks('A', 'B', 'C');
	say_to($c, 'show my tasks');
	is say_to($c, 'mark the first one done'), q{I've marked "C" as done.}, 'the first one of the list shown';
	is say_to($c, 'mark the last one as done'), q{I've marked "A" as done.}, 'the last one';
	is say_to($c, 'complete number 2'), q{I've marked "B" as done.}, 'number 2';
	$c = with_tasks('A', 'B', 'C');
	is say_to($c, 'complete a and c'), "I've marked these tasks as done:\n• A\n• C", 'two by title';
	is calls($c), 'list_tasks complete_task complete_task', '... side by side';
	$c->{tasks}[1]{status} = 'pending';
	say_to($c, 'complete tasks 1 and 2');
	is titles($c), 'C*|B*|A*', 'two by id';
	$c->{tasks}[1]{status} = 'pending';
	is say_to($c, 'complete all tasks'), q{I've marked "B" as done.}, 'all that is left';
	like say_to($c, 'complete everything'), qr/nothing left/, 'nothing left';
	like say_to($c, 'mark b as not done'), qr/can't reopen/, 'no tool to reopen';
	$c = chat();
	say_to($c, 'add task: Buy stamps');
	is say_to($c, 'mark it as done'), q{I've marked "Buy stamps" as done.}, 'it';
};

subtest 'several match' => sub {
	for my $answer ('1', '1.', 'the first one', 'number 1', 'Milk the cow', 'cow', 'MILK THE COW', 'first', '#1', '"Milk the cow"') {
		my $c = with_tasks('Buy milk', 'Milk the cow');
		is say_to($c, 'complete milk'), "I found 2 tasks that match \"milk\":\n1. Milk the cow\n2. Buy milk\n" .
		    'Which one should I mark as done? Reply with the number or the title.', 'a numbered list, and the question';
		is calls($c), 'list_tasks', '... and nothing changed';
		is say_to($c, $answer), q{I've marked "Milk the cow" as done.}, "\"$answer\"";
	}
	my $c = with_tasks('Buy milk', 'Milk the cow');
	say_to($c, 'delete milk');
	is say_to($c, '2'), q{I've deleted "Buy milk".}, 'a choice to delete';
	$c = with_tasks('Buy milk', 'Milk the cow');
	like say_to($c, 'rename milk to Buy oat milk'), qr/Which one should I rename to "Buy oat milk"\?/, 'rename';
	is say_to($c, 'buy milk'), q{I've renamed "Buy milk" to "Buy oat milk".}, '... by title';
	like say_to($c, 'complete milk'), qr/Which one/, 'asked again';
	like say_to($c, 'never mind'), qr/changed nothing/, '... and refused';
	like say_to($c, 'complete milk'), qr/Which one/, 'asked again';
	like say_to($c, 'show my tasks'), qr/You have 2 tasks/, '... and left for another command';
	like say_to($c, 'complete'), qr/Which one should I mark as done/, 'no task named';
	$c = with_tasks('Buy milk', 'Buy milk now');
	is say_to($c, 'complete buy milk'), q{I've marked "Buy milk" as done.}, 'a whole title wins over a part';
	$c = with_tasks('Call Jörg', 'ÄRZTE anrufen');
	is say_to($c, 'complete JÖRG'), q{I've marked "Call Jörg" as done.}, 'any case, any letter';
	is say_to($c, 'complete ärzte'), q{I've marked "ÄRZTE anrufen" as done.}, '... both ways';
};

subtest 'renaming' => sub {
	for my $text ('rename buy milk to Buy oat milk', 'change buy milk to Buy oat milk', 'Rename "Buy milk" to "Buy oat milk"',
	    'update the title of buy milk to Buy oat milk', 'change the task buy milk to Buy oat milk', 'rename task 1 to Buy oat milk',
	    'change task 1 to "Buy oat milk"', 'rename the milk task to Buy oat milk', 'edit buy milk to Buy oat milk.') {
		my $c = with_tasks('Buy milk', 'Call Bob');
		is say_to($c, $text), q{I've renamed "Buy milk" to "Buy oat milk".}, "\"$text\"";
		is_deeply $c->{calls}[-1], ['update_task', { task_id => 1, title => 'Buy oat milk' }], '... by its id';
	}
	my $c = with_tasks('Go to town');
	is say_to($c, 'rename go to town to Stay at home'), q{I've renamed "Go to town" to "Stay at home".}, 'a title with "to"';
	is say_to($c, 'rename stay at home'), 'What should "Stay at home" be called?', 'a missing title is asked for';
	is say_to($c, 'Go out'), q{I've renamed "Stay at home" to "Go out".}, '... and taken';
	is say_to($c, 'change the description of go out to with Ann'), q{I've changed the description of "Go out".}, 'a description';
	is $c->{tasks}[0]{description}, 'with Ann', '... is set';
	is say_to($c, 'rename it to Go home'), q{I've renamed "Go out" to "Go home".}, 'it';
};

subtest 'deleting' => sub {
	for my $text ('remove buy milk', 'delete the task "buy milk"', 'please remove buy milk from my list', 'delete task 1',
	    'get rid of buy milk', 'Delete Buy Milk!') {
		my $c = with_tasks('Buy milk', 'Call Bob');
		is say_to($c, $text), q{I've deleted "Buy milk".}, "\"$text\"";
		is calls($c), 'list_tasks delete_task', '... at once: whoever runs the tools asks';
		is titles($c), 'Call Bob', '... that one';
	}
	my $c = with_tasks('Buy milk', 'Call Bob');
	$c->{fail}{delete_task} = 'The user said no to this call. It was not carried out.';
	is say_to($c, 'delete buy milk'), q{All right, I've kept "Buy milk".}, 'a no comes as the result';
	is say_to($c, 'delete buy milk and then show my tasks') =~ s/\n\d.*//rs,
	    qq{All right, I've kept "Buy milk".\nYou have 2 tasks:}, '... the rest goes on';
	is say_to($c, 'delete all tasks'), "I've kept:\n• Call Bob\n• Buy milk", '... for several';
	like say_to($c, 'yes'), qr/offline demo/, 'a yes without a question';
	like say_to($c, 'delete task 77'), qr/couldn't find a task with the number 77/, 'no such number';

	$c = with_tasks('A', 'B', 'C');
	$_->{status} = 'completed' for @{ $c->{tasks} }[0, 2];
	is say_to($c, 'delete all completed tasks'), "I've deleted these tasks:\n• C (done)\n• A (done)", 'several';
	is calls($c), 'list_tasks delete_task delete_task', '... side by side';
	is titles($c), 'B', '... those';

	$c = with_tasks('Same', 'Same', 'Same');
	like say_to($c, 'delete same'), qr/1\. Same\n2\. Same\n3\. Same/, 'equal titles';
	is say_to($c, '2'), q{I've deleted "Same".}, '... chosen from the list';
	is_deeply [map { $_->{id} } @{ $c->{tasks} }], [3, 1], '... and the right one goes';

	# A word behind a tool's result belongs to the message before: whoever runs the tools asked, and stored the answer.
	$c = with_tasks('Buy milk', 'Call Bob');
	$c->{word} = 'yes';
	is say_to($c, 'delete buy milk'), q{I've deleted "Buy milk".}, 'a word in the middle of a turn';
	is titles($c), 'Call Bob', '... is no message of its own';
};

subtest 'several steps' => sub {
	my $c = chat();
	is say_to($c, 'add task Buy milk and then show my tasks'), qq{I've added "Buy milk".\nYou have 1 task:\n1. Buy milk}, 'one after another';
	is_deeply $c->{progress}, [q{I've added "Buy milk".}], '... with progress';
	say_to($c, 'Add task: A. Then add task: B; complete buy milk');
	is titles($c), 'B|A|Buy milk*', 'three sentences';
	say_to($c, "add task C and mark a as done");
	is titles($c), 'C|B|A*|Buy milk*', 'and';
	my $said = say_to($c, 'complete b, then delete c and then show my tasks');
	is $said, qq{I've marked "B" as done.\nI've deleted "C".\nYou have 3 tasks:\n1. B (done)\n2. A (done)\n3. Buy milk (done)}, 'three at once';
	$said = say_to($c, 'add task D and then complete task 99 and then show my tasks');
	like $said, qr/^I've added "D"\.\nI couldn't find a task with the number 99.*\(Not done yet: "show my tasks"\.\)$/s, 'partial success';
	is titles($c), 'D|B*|A*|Buy milk*', '... is kept';
	is say_to($c, 'add task: E and complete it'), qq{I've added "E".\nI've marked "E" as done.}, 'it';
	is say_to($c, 'add F, then mark it as done, then show completed tasks') =~ s/\n\d.*//rs,
	    qq{I've added "F".\nI've marked "F" as done.\nYou have 5 completed tasks:}, 'three at once, with little to go by';
	say_to($c, 'add task: T1; add task: T2; add task: T3; add task: T4; add task: T5; add task: T6; add task: T7; add task: T8');
	like $c->{said}, qr/T7".*Not done yet: "add task: T8"/s, 'no more than a turn can hold';
};

subtest 'errors in words' => sub {
	like say_to(with_tasks('A'), 'is a done?'), qr/You have 1 task:/, 'a question about one is answered by all';
	my %said = (
		'access denied' => qr/only touch your own/, 'canceling statement due to statement timeout' => qr/took too long.*again/,
		'outcome unknown' => qr/don't know whether it worked/, 'ERROR: XX000 boom' => qr/went wrong.*again in a moment/);
	for my $e (sort keys %said) {
		my $c = with_tasks('A');
		$c->{fail}{complete_task} = $e;
		like say_to($c, 'complete a'), $said{$e}, $e;
		unlike $c->{said}, qr/\Q$e\E/, '... not as it came';
	}
	my $c = with_tasks('A');
	$c->{tools} = ['list_tasks'];
	like say_to($c, 'complete a'), qr/no tool for it/, 'a tool that is not offered is not called';
	is calls($c), 'list_tasks', '...';
	$c = with_tasks(map { "Task number $_" } 1 .. 400);
	$c->{cut} = 16000;
	like say_to($c, 'show my tasks'), qr/more tasks than I can see at once/, 'a list that was cut off';
	is say_to($c, 'complete number 399'), q{I've marked "Task number 399" as done.}, '... still serves';
};

subtest 'people' => sub {
	my $c = chat(system => "You are helpful.\nNow: Friday, 2026-11-20 11:00 (Europe/Berlin)");
	like say_to($c, 'what is my name?'), qr/haven't told/, 'no name yet';
	is say_to($c, 'my name is Ada'), 'Nice to meet you, Ada!', 'a name';
	say_to($c, 'add task: X');
	is say_to($c, 'What is my name?'), 'Your name is Ada.', '... is remembered';
	is say_to($c, "what's my name"), 'Your name is Ada.', '... however asked';
	like say_to($c, 'hello'), qr/^Hello, Ada!.*offline demo/, '... and used';
	is say_to($c, 'Hi, my name is Grace Hopper and I want to add a task: Debug'), qq{Nice to meet you, Grace Hopper!\nI've added "Debug".}, 'a new one';
	is say_to($c, 'do you remember my name?'), 'Your name is Grace Hopper.', '... replaces it';
	is say_to($c, 'what time is it?'), 'It is Friday, 2026-11-20 11:00 (Europe/Berlin).', 'the time';
	is say_to($c, "what's the date today?"), 'It is Friday, 2026-11-20 11:00 (Europe/Berlin).', 'the date';
	like say_to(chat(), 'what day is it?'), qr/not told/, 'no date known';
	like say_to($c, 'Write me a poem about the sea'), qr/offline demo.*add task/s, 'what it is and what it can do';
	like say_to($c, 'help'), qr/offline demo.*add task/s, 'help';
	is say_to($c, 'thank you!'), q{You're welcome!}, 'thanks';
	like say_to($c, 'complete and delete X'), qr/don't go together/, 'contradicting orders';
	is scalar @{ $c->{calls} }, 0, '... do nothing';
	for my $text ("don't delete x", 'I bought milk', '???', 'the weather is nice', '1', '', 'Remember that I like tea', 'are you real?') {
		say_to($c, $text);
		is scalar @{ $c->{calls} }, 0, "\"$text\" calls nothing";
	}
	like say_to(chat(tools => []), 'hm'), qr/no tools/, 'without tools it offers none';
};

done_testing;
