<?php
// Uploads standard input with ftp_fput. The word THROW at its end is an exception in the middle of it.

[, $host, $port, $user, $password, $remote] = $argv;

class Source extends php_user_filter
{
    public function filter($in, $out, &$consumed, bool $closing): int
    {
        while ($bucket = stream_bucket_make_writeable($in)) {
            if (str_ends_with($bucket->data, "THROW")) {
                throw new RuntimeException("the source has failed");
            }
            $consumed += $bucket->datalen;
            stream_bucket_append($out, $bucket);
        }
        return PSFS_PASS_ON;
    }
}

stream_filter_register("source", Source::class);
$source = fopen("php://stdin", "rb");
stream_filter_append($source, "source", STREAM_FILTER_READ);
$ftp = ftp_connect($host, (int) $port);
if (!$ftp || !ftp_login($ftp, $user, $password) || !ftp_pasv($ftp, true)) {
    exit(2);
}
exit(ftp_fput($ftp, $remote, $source, FTP_BINARY) ? 0 : 1);
