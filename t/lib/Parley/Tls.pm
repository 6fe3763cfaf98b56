package Parley::Tls;

# An authority and a certificate for 127.0.0.1, made in a directory of the caller's.
#
#	Parley::Tls::missing and skip;
#	Parley::Tls::make($dir);	# ca.pem; s.pem and s.key; other.pem, an authority that signed nothing

use strict;
use warnings;

use Parley::Process;

# What is not installed; '' where all is there.
sub missing {
	return system('openssl version >/dev/null 2>&1') != 0 ? 'openssl is missing (Debian: openssl)' : '';
}

sub make {
	my ($dir) = @_;
	my $ec = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';

	open my $f, '>', "$dir/ext" or die "ext: $!";
	print $f 'subjectAltName=IP:127.0.0.1';
	close $f or die "ext: $!";
	for my $cmd (
	    "req -x509 $ec -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca",
	    "req $ec -keyout s.key -out s.csr -subj /CN=test",
	    'x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out s.pem',
	    "req -x509 $ec -keyout other.key -out other.pem -days 2 -subj /CN=other") {
		system("cd $dir && openssl $cmd >/dev/null 2>&1") == 0 or die "openssl $cmd";
	}
	Parley::Process::give(glob("$dir/*.key"), glob("$dir/*.pem"));
}

1;
