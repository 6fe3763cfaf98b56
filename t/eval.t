# The harness of `make eval`: it counts right what was understood, and what was not; and the demo model
# understands what it claims to: English.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Contract;
use Parley::Eval;
use Parley::Model;
use Parley::Test;

binmode $_, ':encoding(UTF-8)' for Test::More->builder->output, Test::More->builder->failure_output;

# A script is over when it was told once.
my $milk_twice = join "---\n", call_reply(add_task => { title => 'Buy milk' }, add_task => { title => 'Buy milk' }), text_reply('Done.');
my $second = join "---\n", call_reply(complete_task => { task_id => 2 }), text_reply('Done.');
my $model = Parley::Model->new(scripts => {
	other => join("---\n", call_reply(add_task => { title => 'Buy bread' }), text_reply('Done.')),
	twice => $milk_twice,
	wanted_twice => $milk_twice,
	eager => join("---\n", call_reply(complete_task => { task_id => 1 }), text_reply('Which one?')),
	mute => text_reply('All right.'),
	asks => text_reply('Which one do you mean?'),
	loud => join("---\n", call_reply(add_task => { title => '“buy MILK.”' }), text_reply('Done.')),
	wrong => $second,
	right => $second,
	nobody => join("---\n", call_reply(complete_task => { task_id => 77 }), text_reply('Hm.')),
	broken => "status 400\nraw {}\n",
});
my $t = Parley::Test->new(workers => 2, model => $model);

sub judged {
	my ($script, $want, $good, $name) = @_;
	my $r = Parley::Eval::try_case($t, { tasks => ['Milk', 'Bread'], messages => ["script:$script"], want => $want });
	is !!$r->{good}, !!$good, "$name: " . ($good ? 'right' : 'wrong') or diag "$r->{got}; $r->{said}";
}

judged(other => 'add "Buy milk"', 0, 'another title');
judged(twice => 'add "Buy milk"', 0, 'once too often');
judged(wanted_twice => 'add "Buy milk", add "Buy milk"', 1, 'twice, as it was wanted');
judged(loud => 'add "Buy milk"', 1, 'the same in other quotes');
judged(eager => 'ask', 0, 'asked, but did it');
judged(mute => 'ask', 0, 'did nothing, and did not ask');
judged(asks => 'ask', 1, 'asked');
judged(asks => 'nothing', 1, 'changed nothing');
judged(asks => 'list', 0, 'did not look');
judged(wrong => 'done "Milk"', 0, 'another task');
judged(right => 'done "Bread"', 1, 'that task');
judged(nobody => 'nothing', 1, 'what a tool refuses has changed nothing');
judged(broken => 'nothing', 0, 'no answer');

my @cases = Parley::Eval::cases();
cmp_ok scalar @cases, '>=', 200, scalar(@cases) . ' commands';
my %languages;
push @{$languages{$_->{language}}{$_->{kind}}}, $_ for @cases;
my @kinds = sort keys %{$languages{english}};
is_deeply [sort keys %{$languages{$_}}], \@kinds, "$_: of every kind" for sort keys %languages;
is_deeply \@kinds, [sort qw(add ambiguous complete destructive follow-up incomplete list multi-step talk titles update)], 'kinds';

for my $r (Parley::Eval::try_all($t, [grep { $_->{language} eq 'english' } @cases], 4)) {
	my $c = $r->{case};
	ok $r->{good}, "$c->{kind}: " . join(' // ', @{$c->{messages}}) or diag "wanted $c->{want}; did $r->{got}; said $r->{said}";
}

done_testing;
