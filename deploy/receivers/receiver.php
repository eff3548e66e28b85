<?php
// An application that `pixmed serve --forward` posts to, in PHP without packages.
//
//   PIXMED_FORWARD_SECRETS=whsec_... php -S 127.0.0.1:3000 receiver.php
//
// Keep `verify` and put your own work where `handle` is.
declare(strict_types=1);

// verify tells whether a request is from pixmed: signed with one of the secrets, and
// in the last five minutes.
function verify(string $secrets, string $body): bool
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if ($id === '' || !ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false;
    }
    $valid = false;
    foreach (preg_split('/\s+/', $secrets, -1, PREG_SPLIT_NO_EMPTY) as $secret) {
        $key = base64_decode(preg_replace('/^whsec_/', '', $secret), true);
        $want = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
        foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $given) {
            $valid = hash_equals($want, $given) || $valid;
        }
    }
    return $valid;
}

// handle may be called twice for one notification: remember webhook-id in your
// database, in one transaction with what you do. Those of one transaction come in
// order. It is called for reminders too, that a case is due soon.
function handle(string $id, array $message): void
{
    $data = $message['data'];
    $due = $message['type'] === 'infraction.reminder' ? ", due {$data['dueAt']}" : '';
    error_log("{$message['type']} {$data['transactionId']} {$data['value']} {$data['medStatus']}$due");
}

$secrets = getenv('PIXMED_FORWARD_SECRETS') ?: '';
$body = file_get_contents('php://input'); // as it came: parsing it first would change it
if (trim($secrets) === '' || $_SERVER['REQUEST_METHOD'] !== 'POST' || !verify($secrets, $body)) {
    http_response_code(401);
    exit;
}
try {
    handle($_SERVER['HTTP_WEBHOOK_ID'], json_decode($body, true, 64, JSON_THROW_ON_ERROR));
    http_response_code(204); // done: pixmed will not send it again
} catch (Throwable $error) {
    error_log((string) $error);
    http_response_code(500); // pixmed will send it again
}
