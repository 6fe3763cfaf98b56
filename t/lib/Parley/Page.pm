package Parley::Page;

# The page in a browser before the whole stack.
#
#	my ($t, $b) = Parley::Page::stack(scripts => {…}, conf => {…});	# skips the test without Chromium
#	my $p = signed_in($t, $b, 'alice', dark => 1);
#	say_to($p, 'show my tasks');		# types it and presses Enter
#	settled($p);				# nothing runs any more
#	is_quiet($p, 'name');			# a test: the console has nothing to say
#	is_rows($t, 'alice', $p, 'name');	# a test: what is shown is what is stored

use strict;
use warnings;

use Exporter 'import';
use JSON::XS ();
use Test::More;

use Parley::Browser;
use Parley::Model;
use Parley::Test;

our @EXPORT = qw(conversation_of is_quiet is_rows say_to settled signed_in);

sub stack {
	my (%opt) = @_;
	my $why = Parley::Browser::missing();
	plan skip_all => $why if $why;
	my $model = Parley::Model->new(scripts => $opt{scripts} // {});
	my $t = Parley::Test->new(model => $model, conf => { 'model.retries' => 0, %{$opt{conf} // {}} });
	return ($t, Parley::Browser->new);
}

sub signed_in {
	my ($t, $b, $user, %opt) = @_;
	my $p = $b->page(%opt);
	my $token = $t->token($user);
	# Before the page's own scripts, as settings are that somebody has made.
	$p->call('Page.addScriptToEvaluateOnNewDocument', { source => $opt{before} }) if $opt{before};
	$p->go($t->url . '/' . ($opt{path} // '') . "#token=$token");
	$p->wait('document.querySelector(".composer")');
	return $p;
}

sub say_to {
	my ($p, $text) = @_;
	$p->eval('document.querySelector("#message").focus()');
	my $before = $p->count('.turn');
	$p->type($text);
	$p->key('Enter');
	$p->wait("document.querySelectorAll('.turn').length > $before");
}

# The conversation that the address names.
sub conversation_of {
	my ($p) = @_;
	$p->wait('location.hash.startsWith("#/c/")');
	return substr $p->eval('location.hash'), 4;
}

sub settled {
	my ($p, $seconds) = @_;
	$p->wait('document.querySelector(".turn") && ![...document.querySelectorAll(".turn")].some((x) => /sending|queued|running/.test(x.dataset.state))', $seconds // 15);
}

# Answers of 4xx and 5xx are logged by Chromium itself; the page shows them in words.
sub is_quiet {
	my ($p, $name, $but) = @_;
	is join("\n", $p->complaints(but => $but)), '', "$name: the console is quiet";
}

sub _squeezed { return join ' ', split ' ', $_[0] }

# The plain texts of the messages, without what Markdown made of them: for answers without any.
sub is_rows {
	my ($t, $user, $p, $name) = @_;
	my $id = conversation_of($p);
	my $rows = $t->get("/api/conversations/$id?limit=100", user => $user)->{json}{messages};
	my @stored = map { _squeezed($_->{content}) } grep { $_->{content} ne '' } @$rows;
	my @shown = map { _squeezed($_) } $p->texts('.bubble, .prose');
	is_deeply \@shown, \@stored, $name;
}

1;
