package Parley::Texts;

# Numbers by chance that are the same each time, and many texts at once through a driver (t/drive/texts.h).
#
#	my $r = Parley::Texts->new(seed => 7);
#	$r->below(10); $r->one('a', 'b'); $r->mutated($text);
#	my @lines = Parley::Texts::judged('t/drive/json', [@words], \@texts);

use strict;
use warnings;

use Parley::Process;

# The generator of Numerical Recipes, its high bits: rand() is another one on each system.
sub new {
	my ($class, %o) = @_;
	return bless { state => $o{seed} // 1 }, $class;
}

sub below {
	my ($self, $n) = @_;
	$self->{state} = ($self->{state} * 1664525 + 1013904223) & 0xffffffff;
	return ($self->{state} >> 8) % $n;
}

sub one {
	my $self = shift;
	return $_[$self->below(scalar @_)];
}

# A byte is changed, put in or taken away, some bytes are doubled, or the text is cut.
my @ODD = ("\0", "\n", "\x1f", '"', '\\', '{', '}', '[', ']', ',', ':', '0', '-', '.', 'e', ' ', "\x7f", "\x80", "\xc0", "\xed\xa0\x80", "\xf4\x90\x80\x80",
	"\xef\xbb\xbf", 'u0000', '\\u0000', '\\ud800', 'null', '//', '/**/', "'", 'NaN', '=', '+', '/');

sub mutated {
	my ($self, $text) = @_;
	my $n = length $text;
	my $at = $n ? $self->below($n) : 0;
	my $how = $self->below(6);
	return $text . $self->one(@ODD) if $how == 0 || !$n;
	substr($text, $at, 1) = $self->one(@ODD) if $how == 1;
	substr($text, $at, 0) = $self->one(@ODD) if $how == 2;
	substr($text, $at, 1) = '' if $how == 3;
	substr($text, $at, 0) = substr($text, $self->below($n), 1 + $self->below(8)) if $how == 4;
	$text = substr($text, 0, $at) if $how == 5;
	return $text;
}

# A line for each text.
sub judged {
	my ($driver, $words, $texts) = @_;
	my $dir = Parley::Process::tempdir();
	open my $in, '>:raw', "$dir/texts" or die "$dir/texts: $!";
	print $in length($_), "\n", $_ for @$texts;
	close $in or die "$dir/texts: $!";
	my $line = join ' ', map { "'" . s/'/'\\''/gr . "'" } $driver, @$words;
	open my $out, '-|:raw', "$line <'$dir/texts'" or die "$driver: $!";
	chomp(my @lines = <$out>);
	close $out or die "$driver: status $?";
	unlink "$dir/texts";
	rmdir $dir;
	die "$driver: " . @lines . ' lines for ' . @$texts . ' texts' unless @lines == @$texts;
	return @lines;
}

1;
