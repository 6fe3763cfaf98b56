# What is written is so: keys of the configuration, commands of the README, files of the tarball.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Pool;

my $root = "$FindBin::Bin/..";

sub text {
	open my $fh, '<:encoding(UTF-8)', "$root/$_[0]" or die "$_[0]: $!";
	local $/;
	return <$fh>;
}

# The table of the code: key => default.
my (%table, @secrets);
my $ctl = Parley::Pool::program('parleyctl');
for (qx{'$ctl' conf}) {
	chomp;
	my ($key, $type, $default, $env) = split /\t/, $_, -1;
	next unless defined $env;
	# Secrets stand in no file of settings: only their variables are written about.
	if ($type eq 'secret') {
		push @secrets, $env;
	} else {
		$table{$key} = $default;
	}
	(my $name = 'PARLEY_' . uc $key) =~ tr/A-Z0-9/_/c;
	is $env, $name, "$key: its variable";
}
cmp_ok scalar(keys %table), '>', 40, 'parleyctl conf lists the keys';

# The sample: each key commented, with its default.
my (%sample, $section);
for (split /\n/, text('conf/parley.conf')) {
	$section = $1 if /^#?\[(.+)\]$/;
	$sample{"$section.$1"} = $2 if /^#(\w+) =(?: (.*))?$/;
}
$_ //= '' for values %sample;
is_deeply \%sample, \%table, 'conf/parley.conf: the same keys and defaults';

# The manual: sections are .Ss, keys are .It Ic name Ar default.
my %manual;
for (split /\n/, text('man/parley.conf.5')) {
	$section = $1 if /^\.Ss \[(.+)\]$/;
	$manual{"$section.$1"} = $2 if /^\.It Ic (\w+)(?: Ar (.*))?$/;
}
s/\\&//g for grep { defined } values %manual;
$_ //= '' for values %manual;
is_deeply \%manual, \%table, 'man/parley.conf.5: the same keys and defaults';
like text('man/parley.conf.5'), qr/^\.Ev \Q$_\E\b/m, "man/parley.conf.5: $_" for @secrets;

# parley(7) knows each table, and no key that there is not.
my $overview = text('man/parley.7');
my %created = map { $_ => 1 } map { text("schema/$_") =~ /^CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?parley\.(\w+)/mg }
    map { m{([^/]+)\z} } glob "$root/schema/*.sql";
like $overview, qr/^\.It Li \Q$_\E$/m, "man/parley.7: the table $_" for sort keys %created;
my %section = map { /^(\w+)\./ ? ($1 => 1) : () } keys %table;
for my $key (sort keys %{{ map { $_ => 1 } $overview =~ /(?<![\w.])([a-z]+\.[a-z_]+)\b/g }}) {
	next unless $section{$key =~ s/\..*//r};
	ok exists $table{$key}, "man/parley.7: there is a key $key";
}

# Commands that README and HACKING tell people to type.
my $makefile = text('Makefile.am');
my $quickstart = text('quickstart');
for my $file (qw(README HACKING)) {
	my $text = text($file);
	my %make = map { $_ => 1 } $text =~ /^\s+make (?:-\S+ )?([a-z-]+)/mg;
	for my $target (sort keys %make) {
		ok $makefile =~ /^\Q$target\E:/m || $target =~ /^(check|install|dist|distcheck)$/, "$file: make $target";
	}
	my %command = map { $_ => 1 } $text =~ m{\./quickstart ([a-z]+)}g;
	ok $quickstart =~ /^\Q$_\E\)/m, "$file: ./quickstart $_" for sort keys %command;
	my %path = map { $_ => 1 } $text =~ m{\b((?:src|t|conf|schema|man)/[\w./-]*\w)}g;
	for my $path (sort keys %path) {
		# A program that a build in another directory has not put beside its source is there as its source.
		ok -e "$root/$path" || -e "$root/$path.c", "$file: $path" unless $path =~ m{/parley/|^t/(?:chat|docs)\.log|/examples/};
	}
}

# A test or a schema file that the tarball would miss is missed only by its users.
for my $path (glob("$root/t/*.t"), glob("$root/t/lib/Parley/*.pm"), glob("$root/schema/*.sql")) {
	(my $name = $path) =~ s{^\Q$root\E/}{};
	like $makefile, qr/^\t\Q$name\E(?: \\)?$/m, "Makefile.am lists $name";
}

# The published contract and the routes of the worker.
my @routes = text('src/api/route.c') =~ m[^\t\{ "([A-Z]+)",\s+"(/[^"]+)"]mg;
my $openapi = text('openapi.yaml');
while (my ($method, $path) = splice @routes, 0, 2) {
	$path =~ s/\{user\}/{user_id}/;
	like $openapi, qr/^  \Q$path\E:\n(?:    .*\n|\n)*?    \L$method\E:\n/m, "openapi.yaml: $method $path";
}

SKIP: {
	skip 'mandoc is not there', 1 unless grep { -x "$_/mandoc" } split /:/, $ENV{PATH};
	is qx{mandoc -Tlint -Wwarning '$root'/man/*.[0-9] 2>&1}, '', 'mandoc has nothing to say';
}
SKIP: {
	skip 'shellcheck is not there', 1 unless grep { -x "$_/shellcheck" } split /:/, $ENV{PATH};
	is qx{cd '$root' && shellcheck quickstart bootstrap scripts/* .ci/run 2>&1}, '', 'shellcheck has nothing to say';
}

done_testing;
