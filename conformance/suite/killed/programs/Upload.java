import java.io.OutputStream;
import java.net.URI;
import java.net.URLConnection;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Uploads standard input with java.net.URL. The word THROW at its end is an exception in the middle of it. */
final class Upload {
    private static final byte[] THROW = "THROW".getBytes(StandardCharsets.US_ASCII);

    public static void main(String[] words) throws Exception {
        String user = URLEncoder.encode(words[2], StandardCharsets.UTF_8);
        String password = URLEncoder.encode(words[3], StandardCharsets.UTF_8);
        String url = "ftp://" + user + ":" + password + "@" + words[0] + ":" + words[1] + "/" + words[4] + ";type=i";
        URLConnection connection = URI.create(url).toURL().openConnection();
        OutputStream out = connection.getOutputStream();
        byte[] block = new byte[8192];
        for (int read; (read = System.in.read(block)) >= 0; ) {
            if (read >= THROW.length
                    && Arrays.equals(Arrays.copyOfRange(block, read - THROW.length, read), THROW)) {
                throw new IllegalStateException("the source has failed");
            }
            out.write(block, 0, read);
        }
        out.close();
    }
}
