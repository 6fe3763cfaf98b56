package Parley::Test;

# The whole of Parley for a test: PostgreSQL, model, workers, nginx; all private.
#
#	my $t = Parley::Test->new(conf => { 'turn.deadline' => '5s' });
#	my $r = $t->chat('alice', 'add task: Buy milk');	# { status, headers, body, json }
#	my @e = $t->stream('alice', 'show my tasks');		# ({ event, id, data }, …)
#	$r = $t->get('/api/conversations', user => 'alice');
#
# Options:
#	pg	a Parley::Postgres to share (default: a new one)
#	model	a Parley::Model to share, or its base_url (default: a new demo model)
#	conf	section.key => value on top of what a test needs
#	workers, env, how, listen	see Parley::Pool
#	settings, nginx_workers	see Parley::Nginx
#	wait => 0	do not wait for /api/health
#
# A second pool on the same data: Parley::Test->new(pg => $t->pg, model => $t->model).
#
# Requests name a user (user => 'alice': a valid token is made) or bring a token
# (token => $text; token => undef: none).  Other options: headers => {},
# seconds => how long to wait for bytes.  A body that is a reference is sent as JSON, any
# other as it is, both as application/json unless headers say otherwise.

use strict;
use warnings;

use Digest::SHA ();
use JSON::XS ();
use MIME::Base64 ();
use Time::HiRes ();

use Parley::Client;
use Parley::Model;
use Parley::Nginx;
use Parley::Pool;
use Parley::Postgres;
use Parley::Process;

our $SECRET = 'a secret of the tests, 32 bytes or more';
my $JSON = JSON::XS->new->utf8->canonical;

sub new {
	my ($class, %opt) = @_;
	my $self = bless { owner_pid => $$ }, $class;

	$self->{pg} = $opt{pg} // Parley::Postgres->new;
	$self->{model} = $opt{model} // Parley::Model->new;
	$self->{pool} = Parley::Pool->new(
		conf => { $self->_conf, %{$opt{conf} // {}} },
		env => { PARLEY_AUTH_SECRET => $SECRET, PARLEY_LOG_USER_KEY => 'tests', %{$opt{env} // {}} },
		map { exists $opt{$_} ? ($_ => $opt{$_}) : () } qw(workers how listen));
	$self->{nginx} = Parley::Nginx->new(sockets => [$self->{pool}->socket],
	    $opt{settings} ? (settings => $opt{settings}) : (),
	    $opt{nginx_workers} ? (workers => $opt{nginx_workers}) : ());
	$self->ready unless exists $opt{wait} && !$opt{wait};
	return $self;
}

sub _conf {
	my ($self) = @_;
	return (
		'database.url' => $self->{pg}->url('parley_worker'),
		'model.base_url' => ref $self->{model} ? $self->{model}->url : $self->{model},
		'model.model' => 'demo',
		'worker.drain_timeout' => '2s',
		# Who is not root could not look into workers else.
		$> == 0 ? () : ('worker.confine' => 'no'),
	);
}

sub pg { $_[0]{pg} }
sub model { $_[0]{model} }
sub pool { $_[0]{pool} }
sub nginx { $_[0]{nginx} }
sub url { $_[0]{nginx}->url }
sub pids { $_[0]{pool}->pids }
sub log { $_[0]{pool}->log }
sub log_text { $_[0]{pool}->log_text }

# Waits until all workers are there and the first answers; dies with the log otherwise.
sub ready {
	my ($self, $seconds) = @_;
	my $ok = Parley::Process::wait_for {
		$self->{pool}{process}->running or die 'the workers ended: ' . $self->log_text;
		my $r = eval { $self->get('/api/health', token => undef, seconds => 5) };
		$r && $r->{status} == 200;
	} $seconds // 30;
	die 'the workers are not ready: ' . $self->log_text . $self->{nginx}->log_text unless $ok;
}

sub restart_pool {
	my ($self, %change) = @_;
	$self->{pool}->write_conf(%change) if %change;
	$self->{pool}->restart;
	$self->ready;
}

# Ends a worker as a crash would; multiwatch starts another.
sub kill_worker {
	my ($self, $pid) = @_;
	kill 'KILL', $pid // ($self->pids)[0];
}

# Waits for a log line for which the function, given it as $_ and argument, is true.
sub log_wait {
	my ($self, $code, $seconds) = @_;
	return Parley::Process::wait_for {
		for ($self->log) {
			return $_ if $code->($_);
		}
		return undef;
	} $seconds // 10;
}

# A valid HS256 token; claims override (undef: left out).
sub token {
	my ($self, $user, %claims) = @_;
	my %c = (sub => $user, iat => time, exp => time + 3600, %claims);
	delete $c{$_} for grep { !defined $c{$_} } keys %c;
	return jwt({ alg => 'HS256', typ => 'JWT' }, \%c, $SECRET);
}

# Any token: header and payload are a hash, or the text itself.
sub jwt {
	my ($header, $payload, $secret) = @_;
	my ($h, $p) = map { ref ? $JSON->encode($_) : $_ } $header, $payload;
	my $alg = ref $header ? $header->{alg} // '' : 'HS256';
	my $signed = _b64($h) . '.' . _b64($p);
	my $mac = $alg eq 'HS512' ? Digest::SHA::hmac_sha512($signed, $secret)
	    : $alg eq 'HS384' ? Digest::SHA::hmac_sha384($signed, $secret)
	    : Digest::SHA::hmac_sha256($signed, $secret);
	return "$signed." . _b64($mac);
}

sub _b64 { MIME::Base64::encode_base64url($_[0]) }

# Starts a request; see Parley::Client for what can be done with it.
sub begin {
	my ($self, $method, $path, $body, %opt) = @_;
	my $token = exists $opt{token} ? $opt{token} : $self->token($opt{user} // 'alice');
	my %headers;

	$headers{Authorization} = "Bearer $token" if defined $token;
	$headers{'Content-Type'} = 'application/json' if defined $body;
	$body = $JSON->encode($body) if ref $body;
	return Parley::Client->new($self->{nginx}->port, $method, $path, $body,
	    { %headers, %{$opt{headers} // {}} }, $opt{seconds});
}

sub request {
	my $self = shift;
	return $self->begin(@_)->response;
}

sub get { my ($self, $path, @opt) = @_; return $self->request('GET', $path, undef, @opt) }
sub delete { my ($self, $path, @opt) = @_; return $self->request('DELETE', $path, undef, @opt) }
sub post { my $self = shift; return $self->request('POST', @_) }
sub patch { my $self = shift; return $self->request('PATCH', @_) }

# One turn.  Fields of the body follow: conversation_id => …, time_zone => …
sub chat {
	my ($self, $user, $message, %fields) = @_;
	return $self->begin_chat($user, $message, %fields)->response;
}

# The same without waiting; ->response or ->event come later.
sub begin_chat {
	my ($self, $user, $message, %fields) = @_;
	return $self->begin('POST', '/api/chat', { message => $message, %fields }, user => $user);
}

# One turn as a stream: all its events.
sub stream {
	my ($self, $user, $message, %fields) = @_;
	my $r = $self->begin_chat($user, $message, %fields, stream => JSON::XS::true);
	my @events;

	while (my $e = $r->event) {
		push @events, $e;
	}
	return @events;
}

# Bytes as they are; all that comes back.
sub raw {
	my ($self, $bytes, $seconds) = @_;
	my $c = Parley::Client->connect($self->{nginx}->port, $seconds);
	$c->write($bytes);
	return $c->slurp;
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	# In this order: nginx would answer 503 for workers that are gone, workers complain of a lost database.
	delete $self->{$_} for qw(nginx pool model pg);
}

1;
