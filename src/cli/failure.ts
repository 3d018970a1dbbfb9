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

/** What a thrown value has to say, in one line or a stack. */
export function explain(error: unknown): { readonly text: string; readonly exitCode: number } {
  if (error instanceof Failure) {
    const hint = error.hint === undefined ? '' : `\n💡 ${error.hint}`;
    return { text: `Error: ${error.message}${hint}`, exitCode: error.exitCode };
  }
  if (error instanceof Error) {
    // A system error (ENOENT, ECONNREFUSED) already says what happened; its stack only hides it.
    const expected = 'code' in error && typeof error.code === 'string' && 'syscall' in error;
    const shown = expected && process.env.ISTHMUS_DEBUG === undefined ? error.message : error.stack;
    return { text: `Error: ${shown ?? error.message}`, exitCode: 1 };
  }
  return { text: `Error: ${String(error)}`, exitCode: 1 };
}
