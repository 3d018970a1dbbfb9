/**
 * A failure that the user can understand and act on: one clear sentence, and what to try next.
 * Whatever else is thrown is a defect of ours and is shown with its stack.
 */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly hint: string | undefined;
  /** Exit code of the process: 1 when the work failed, 2 when the command line was wrong. */
  readonly exitCode: number;

  constructor(
    message: string,
    options: {
      readonly hint?: string | undefined;
      readonly exitCode?: number;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.hint = options.hint;
    this.exitCode = options.exitCode ?? 1;
  }
}

/** Somebody did not answer in time: looks like what the system says of a connection, so that it is the world's fault. */
export function timedOut(message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(message), { code: 'ETIMEDOUT', syscall: 'wait' });
}

/** What a thrown value has to say to the user: a sentence where it is the world's fault, a stack where it is ours. */
export function explain(error: unknown): { readonly text: string; readonly exitCode: number } {
  if (error instanceof Failure)
    return { text: sentence(error.message, error.hint), exitCode: error.exitCode };
  if (!(error instanceof Error)) return { text: sentence(String(error)), exitCode: 1 };
  if (process.env.ISTHMUS_DEBUG !== undefined) return { text: error.stack ?? error.message, exitCode: 1 };
  const code = systemCode(error);
  if (code !== undefined)
    return { text: sentence(error.message, unreachable.has(code) ? reachHint : undefined), exitCode: 1 };
  // By its name: importing the class would load every schema before --help could be shown.
  if (error.name === 'KubeError') return { text: sentence(error.message), exitCode: 1 };
  return { text: sentence(error.stack?.replace(/^Error: /, '') ?? error.message), exitCode: 1 };
}

const unreachable = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
]);
const reachHint = 'is the cluster up, and is it the one you mean (--context, --kubeconfig)?';

function sentence(message: string, hint?: string): string {
  return `Error: ${message}${hint === undefined ? '' : `\n💡 ${hint}`}`;
}

/** ENOENT, ECONNREFUSED …: what the system said, here or in what caused this. */
function systemCode(error: Error): string | undefined {
  if ('code' in error && typeof error.code === 'string' && 'syscall' in error) return error.code;
  return error.cause instanceof Error ? systemCode(error.cause) : undefined;
}
