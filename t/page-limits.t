# What the page says when a user has asked for too much: in words, and when to try again.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Page;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);
# It is about days: not over the end of one.
sleep 61 if time % 86400 > 86340;

my ($t, $b) = Parley::Page::stack(
	conf => { 'limits.user_turns_per_minute' => 2, 'limits.user_tokens_per_day' => 100_000 },
	scripts => {
		short => join("---\n", (text_reply('Yes.')) x 20),
		dear => call_reply(list_tasks => {}) =~ s/"prompt_tokens":7/"prompt_tokens":500000/r,
	});

my %words = (
	en => [qr/Too many messages at once\. Try again in \d+ seconds?\./, qr/allowance is used up for now\. Try again at [^.]*\d[^.]*\./],
	de => [qr/Zu viele Nachrichten auf einmal\. Versuche es in \d+ Sekunden? noch einmal\./, qr/Kontingent ist vorerst verbraucht\. Versuche es ab .*\d.* noch einmal\./],
	ur => [qr/سیکنڈ بعد دوبارہ کوشش/, qr/پر دوبارہ کوشش/],
);
for my $language (sort keys %words) {
	subtest $language => sub {
		my $user = "user-$language";
		my $p = signed_in($t, $b, $user, before => "localStorage.setItem('parley.language', '\"$language\"')");
		say_to($p, 'script:short');
		settled($p);
		say_to($p, 'script:short');
		settled($p);
		say_to($p, 'script:short');
		$p->wait('document.querySelector(".notice")');
		like $p->text('.notice p'), $words{$language}[0], 'too many in a minute';

		$t->pg->psql("UPDATE parley.usage SET spent = 100000 WHERE user_id = '$user'; DELETE FROM parley.pace");
		$p = signed_in($t, $b, $user, before => "localStorage.setItem('parley.language', '\"$language\"')");
		say_to($p, 'script:short');
		$p->wait('document.querySelector(".notice")');
		like $p->text('.notice p'), $words{$language}[1], 'too much in a day';
	};
}

subtest 'in the middle of a turn' => sub {
	my $p = signed_in($t, $b, 'ann');
	say_to($p, 'script:dear');
	$p->wait('document.querySelector(".notice")');
	like $p->text('.notice p'), qr/used up for now\. There is a new one each day at midnight, UTC\./, 'in words';
	is $p->count('.bubble'), 1, 'what was asked is there';
};

done_testing;
