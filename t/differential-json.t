# The door for JSON against JSON::XS: the same verdict on every text, but where we want more, and then it can be
# shown of the text itself; and what both take means the same.  PARLEY_DIFFERENTIAL: how many texts.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;

use Parley::Texts;

my ($driver) = grep { -x } 't/drive/json', "$FindBin::Bin/drive/json";
plan skip_all => 't/drive/json has not been built' unless $driver;

my $count = $ENV{PARLEY_DIFFERENTIAL} // 100000;
my $r = Parley::Texts->new(seed => 20261121);
# Of its own depth it is told nothing: ours is one of the reasons below.
my $xs = JSON::XS->new->utf8->allow_nonref->canonical->max_depth(10000);

# -- texts --

my @STRINGS = ('', 'a', 'key', 'Gr\\u00fc\\u00dfe', "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", '\\"\\\\\\/\\b\\f\\n\\r\\t', '\\ud83d\\ude00', '\\ud83d', '\\ude00\\ud83d',
	'\\u0000', '\\u00e9', '\\uD83d\\uDe00', "\x7f", "\xef\xbf\xbf", "\xed\xa0\x80", "\xc0\x80", '\\x41', "tab\there", '__proto__', '\\u0061');
my @NUMBERS = qw(0 -0 1 -1 12 1.5 -0.25 1e3 1E+3 1e-3 2.5e10 01 -01 1. .5 +1 1e 1e+ - 0x10 1e999 1e1000 -1e-999 NaN Infinity 9223372036854775807
	9223372036854775808 -9223372036854775808 18446744073709551615 18446744073709551616 0.1 123456789.123456789);
push @NUMBERS, '1' x 40, '1' x 41, '0.' . '1' x 39, '0.' . '1' x 40, '1e0001', '1e000';
my @SPACES = ('', '', '', ' ', "\n", "\t\r\n ", "\x0b", "\xc2\xa0");

sub string { '"' . join('', map { $r->one(@STRINGS) } 0 .. $r->below(2)) . '"' }

sub value {
	my ($depth) = @_;
	my $kind = $r->below($depth > 0 ? 9 : 5);
	my $space = $r->below(8) ? '' : $r->one(@SPACES);
	return $space . $r->one(qw(true false null)) if $kind == 0;
	return $space . $r->one(@NUMBERS) if $kind == 1;
	return $space . $r->below(1000) if $kind == 2;
	return string() . $space if $kind < 5;
	my @inside = map { $kind < 7 ? value($depth - 1) : string() . $space . ':' . value($depth - 1) } 1 .. $r->below(4);
	my $comma = $r->below(60) ? ',' : ',,';
	return ($kind < 7 ? '[' : '{') . $space . join($comma, @inside) . ($kind < 7 ? ']' : '}');
}

sub text {
	my $text = value(4);
	if ($r->below(12) == 0) {
		my $n = 28 + $r->below(8);
		$text = $r->below(2) ? '[' x $n . $text . ']' x $n : '{"a":' x $n . $text . '}' x $n;
	}
	$text = "\xef\xbb\xbf$text" if $r->below(50) == 0;
	$text = $r->mutated($text) if $r->below(3) == 0;
	$text .= $r->one(' ', 'x', '{}', "\0", ' null') if $r->below(40) == 0;
	return $text;
}

# -- why we may want less than the other takes; each can be seen in the text --

# Its tokens: a grammar that JSON::XS has already approved of needs no other.
sub tokens { $_[0] =~ /("(?:[^"\\]|\\.)*"|[-+0-9.eE]+|[\[\]{}:,]|\w+)/gs }

# RFC 3629, section 4.
my $UTF8 = qr/[\x00-\x7f]++|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]
    |\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}/x;

my @reasons = (
	'a NUL would cut the text short in C and in PostgreSQL' => sub { $_[0] =~ /(?<!\\)(?:\\\\)*\\u0000/ || $_[0] =~ /\0/ },
	'it is no UTF-8' => sub { $_[0] !~ /^(?:$UTF8)*+\z/ },
	'a name stands twice in an object' => sub {
		my $names = grep { $_ eq ':' } tokens($_[0]);
		return $names > members($xs->decode($_[0]));
	},
	'it is nested more than 32 deep' => sub {
		my ($depth, $most) = (0, 0);
		for (tokens($_[0])) {
			$depth++, $most = $depth > $most ? $depth : $most if /^[\[{]/;
			$depth-- if /^[\]}]/;
		}
		return $most > 32;
	},
	'a number has more than 40 digits, or an exponent of more than 3' => sub {
		grep { /^-?([\d.]+)(?:[eE][-+]?(\d+))?$/ && (($1 =~ tr/0-9//) > 40 || length($2 // '') > 3) } tokens($_[0]);
	},
);

sub members {
	my ($v) = @_;
	my $n = 0;
	$n += members($_) for ref $v eq 'ARRAY' ? @$v : ref $v eq 'HASH' ? values %$v : ();
	return $n + (ref $v eq 'HASH' ? keys %$v : 0);
}

sub reason {
	my ($text) = @_;
	for (my $i = 0; $i < @reasons; $i += 2) {
		return $reasons[$i] if $reasons[$i + 1]->($text);
	}
	return undef;
}

sub shown { substr($_[0], 0, 300) =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger }

# -- the comparison --

my @texts = map { text() } 1 .. $count;
push @texts, '', ' ', 'null', '"', '[', '{', '[1,]', '{"a":1,}', '[' x 32 . ']' x 32, '[' x 33 . ']' x 33, '[' x 100000, '{"a":1}{"b":2}', "\xff\xfe{\0}\0";
my @ours = Parley::Texts::judged($driver, [], \@texts);
my (%seen, %wrong, $both);

for my $i (0 .. $#texts) {
	my ($text, $mine) = ($texts[$i], $ours[$i] =~ /^\+/);
	my $theirs = eval { $xs->decode($text); 1 };
	my $why = $theirs ? reason($text) : undef;
	$seen{$why}++ if defined $why;
	if ($mine && !$theirs) {
		push @{$wrong{'only ours takes'}}, $text;
	} elsif ($mine && defined $why) {
		push @{$wrong{"ours takes, though $why:"}}, $text;
	} elsif (!$mine && $theirs && !defined $why) {
		push @{$wrong{"ours refuses without a reason that we know ($ours[$i]):"}}, $text;
	} elsif ($mine) {
		$both++;
		# What our writer makes of it means the same to the other.
		my $again = eval { $xs->decode(substr $ours[$i], 1) };
		push @{$wrong{'becomes another in our writer'}}, $text if $@ || $xs->encode($xs->decode($text)) ne $xs->encode($again);
	}
}

ok !%wrong, scalar(@texts) . ' texts: the same verdicts' or
    diag map { my $how = $_; map { "$how " . shown($_) . "\n" } @{$wrong{$how}}[0 .. ($#{$wrong{$how}} < 5 ? $#{$wrong{$how}} : 5)] } sort keys %wrong;
cmp_ok $both, '>', @texts / 10, "... of which $both are JSON to both, and the same";
for (my $i = 0; $i < @reasons; $i += 2) {
	ok $seen{$reasons[$i]}, "... and $seen{$reasons[$i]} to the other alone: $reasons[$i]" if $seen{$reasons[$i]};
}
done_testing;
