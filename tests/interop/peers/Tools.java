// Runs Kafka's own command-line tools one after another inside one JVM, because a JVM per call costs a second.
//
// A line of JSON on stdin: {"class": "org.apache.kafka.tools.TopicCommand", "args": ["--list", …], "stdin": "…"}.
// A line of JSON on stdout for each: {"code": 0, "out": "…", "err": "…"}. Both texts are base64 of the bytes.
// A tool that calls exit ends only itself, after its shutdown hooks. One that does not end within "seconds" (60) is interrupted: code 124.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.*;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.common.utils.Exit;

public class Tools {
    static final class Ended extends RuntimeException {
        Ended(int code) { super("exit " + code, null, false, false); }
    }

    /// The first code that the tool wanted to exit with: some catch what exit throws here, and exit again.
    static volatile Integer exitCode;
    static final List<Runnable> hooks = new CopyOnWriteArrayList<>();

    public static void main(String[] ignored) throws Exception {
        PrintStream answers = System.out;
        ObjectMapper json = new ObjectMapper();
        Exit.Procedure end = (code, message) -> {
            exitCode = exitCode == null ? code : exitCode;
            throw new Ended(code);
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = requests.readLine()) != null; ) {
            JsonNode request = json.readTree(line);
            ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
            int code = run(request, out, err);
            Map<String, Object> answer = new LinkedHashMap<>();
            answer.put("code", code);
            answer.put("out", Base64.getEncoder().encodeToString(out.toByteArray()));
            answer.put("err", Base64.getEncoder().encodeToString(err.toByteArray()));
            answers.println(json.writeValueAsString(answer));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    static int run(JsonNode request, OutputStream out, OutputStream err) throws Exception {
        List<String> args = new ArrayList<>();
        request.get("args").forEach(arg -> args.add(arg.asText()));
        PrintStream outStream = new PrintStream(out, true, StandardCharsets.UTF_8);
        PrintStream errStream = new PrintStream(err, true, StandardCharsets.UTF_8);
        InputStream in = System.in;
        System.setOut(outStream);
        System.setErr(errStream);
        System.setIn(new ByteArrayInputStream(request.path("stdin").asText("").getBytes(StandardCharsets.UTF_8)));
        FutureTask<Integer> task = new FutureTask<>(() -> call(request.get("class").asText(), args, errStream));
        Thread thread = new Thread(task, "tool");
        thread.setDaemon(true);
        thread.start();
        try {
            return task.get(request.path("seconds").asInt(60), TimeUnit.SECONDS);
        } catch (TimeoutException late) {
            thread.interrupt();
            return 124;
        } finally {
            outStream.flush();
            errStream.flush();
            System.setIn(in);
        }
    }

    static int call(String name, List<String> args, PrintStream err) throws Exception {
        exitCode = null;
        hooks.clear();
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) args.toArray(new String[0]));
            return exitCode == null ? 0 : exitCode;
        } catch (InvocationTargetException thrown) {
            if (exitCode != null) return exitCode;
            thrown.getCause().printStackTrace(err);
            return 1;
        } finally {
            hooks.forEach(Runnable::run);
        }
    }
}
