import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

const levels = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' } as const;

/**
 * The one logger of a process: JSON lines, or readable text where a person watches (a terminal, or
 * ISTHMUS_LOG_FORMAT=text). ISTHMUS_LOG_LEVEL sets the least level (default info).
 */
export const log: Logger = createLogger();

/** A logger whose lines carry the name of a part of the process. */
export function logOf(part: string): Logger {
  return log.child({ part });
}

function createLogger(): Logger {
  const level = process.env.ISTHMUS_LOG_LEVEL ?? 'info';
  const format = process.env.ISTHMUS_LOG_FORMAT ?? (process.stderr.isTTY ? 'text' : 'json');
  const options = {
    level,
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    serializers: { error: errorFields },
  };
  return pino(options, format === 'text' ? textStream() : pino.destination({ fd: 2, sync: true }));
}

function errorFields(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const cause = error.cause === undefined ? {} : { cause: errorFields(error.cause) };
  return { name: error.name, message: error.message, stack: error.stack, ...cause };
}

function textStream(): DestinationStream {
  return {
    write(line) {
      const { level, time, msg, part, error, ...fields } = JSON.parse(line) as Record<string, unknown>;
      const name = levels[level as keyof typeof levels] ?? String(level);
      const rest = Object.entries(fields).map(([key, value]) => `${key}=${plain(value)}`);
      const reason = error === undefined ? [] : [`error=${plain((error as { message?: unknown }).message)}`];
      const words = [
        String(time).slice(11, 23),
        name.padEnd(5),
        part ? `${part}:` : '',
        msg,
        ...rest,
        ...reason,
      ];
      process.stderr.write(`${words.filter(Boolean).join(' ')}\n`);
    },
  };
}

function plain(value: unknown): string {
  return typeof value === 'string'
    ? /[\s"]/.test(value)
      ? JSON.stringify(value)
      : value
    : JSON.stringify(value);
}
