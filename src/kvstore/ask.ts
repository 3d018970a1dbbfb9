import {
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { Call, type Carrier } from './call.ts';

export interface AskOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds; 0: for ever. */
  readonly timeoutMs: number;
}

/** Asks one or more questions of a method; resolves to the answers when the server has given all. @throws ConnectError */
export async function ask<I extends DescMessage, O extends DescMessage>(
  session: Carrier,
  method: DescMethod & { input: I; output: O },
  questions: readonly MessageInitShape<I>[],
  options: AskOptions,
): Promise<MessageShape<O>[]> {
  return askAs(session, method, questions, options, message => fromBinary(method.output, message));
}

/** `ask`, of which the answers are read in another way. What `read` throws ends the call. */
export async function askAs<I extends DescMessage, Answer>(
  session: Carrier,
  method: DescMethod & { input: I },
  questions: readonly MessageInitShape<I>[],
  { signal, timeoutMs }: AskOptions,
  read: (message: Uint8Array) => Answer,
): Promise<Answer[]> {
  if (signal?.aborted) throw ConnectError.from(signal.reason, Code.Canceled);
  const answers: Answer[] = [];
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>();
  const call = new Call(session, method, timeoutMs, {
    onMessage: message => {
      try {
        answers.push(read(message));
      } catch (error) {
        call.cancel(ConnectError.from(error, Code.Internal));
      }
    },
    onEnd: error => (error ? reject(error) : resolve()),
  });
  const late = (): void =>
    call.cancel(new ConnectError(`no answer after ${timeoutMs} ms`, Code.DeadlineExceeded));
  const timer = timeoutMs > 0 ? setTimeout(late, timeoutMs) : undefined;
  const onAbort = (): void => call.cancel(ConnectError.from(signal!.reason, Code.Canceled));
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    for (const [at, question] of questions.entries()) call.send(question, at === questions.length - 1);
    await ended;
    return answers;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** One question and its answer. @throws ConnectError */
export async function askOnce<I extends DescMessage, O extends DescMessage>(
  session: Carrier,
  method: DescMethod & { input: I; output: O },
  question: MessageInitShape<I>,
  options: AskOptions,
): Promise<MessageShape<O>> {
  return only(await ask(session, method, [question], options));
}

/** The answer to a question that has one. @throws ConnectError where there is another number of them */
export function only<Answer>([answer, ...more]: readonly Answer[]): Answer {
  if (answer === undefined || more.length)
    throw new ConnectError('the answer is not one message', Code.Internal);
  return answer;
}
