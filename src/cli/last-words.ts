import * as z from 'zod';

const LogLine = z.looseObject({
  level: z.number(),
  msg: z.string().default(''),
  error: z.looseObject({ message: z.string() }).optional(),
});

/** The levels of pino's lines from which on something failed. */
const failing = 50;

/**
 * Why a process ended, out of the last of its log (a container's termination message): the last error that our
 * logger wrote, else the message of an uncaught exception, else the last line. Empty where our logger tells of no
 * error: whoever loses its power says nothing of it.
 */
export function lastWords(log: string): string {
  const lines = log.split('\n').filter(line => line.trim() !== '');
  for (const line of lines.toReversed()) {
    const entry = parseLine(line);
    if (entry && entry.level >= failing) return [entry.msg, entry.error?.message].filter(Boolean).join(': ');
  }
  // Node prints where it was thrown, the error, its stack and its own version.
  const thrown = lines.find(line => /^(\w*Error|\w+ \[\w+\]): /.test(line));
  const last = lines.at(-1) ?? '';
  return (thrown ?? (parseLine(last) ? '' : last)).trim();
}

function parseLine(line: string): z.infer<typeof LogLine> | undefined {
  try {
    return LogLine.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}
