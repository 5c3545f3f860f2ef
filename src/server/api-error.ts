/** Errors as the OpenAI API answers them: a status, and a body {error: {message, type, param, code}}. */
import { presentError } from '../errors.js';

export interface ApiErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

export interface ApiErrorDetails {
  /** The parameter that is wrong. */
  param?: string;
  /** For programs. */
  code?: string;
  headers?: Record<string, string>;
}

/** An answer that is no success. The message is for the client: it tells nothing of this machine. */
export class ApiError extends Error {
  readonly headers: Record<string, string>;
  readonly #details: ApiErrorDetails;

  constructor(
    readonly status: number,
    message: string,
    details: ApiErrorDetails = {},
  ) {
    super(message);
    this.name = 'ApiError';
    this.headers = details.headers ?? {};
    this.#details = details;
  }

  get body(): ApiErrorBody {
    const { param = null, code = null } = this.#details;
    const type = this.status >= 500 ? 'server_error' : 'invalid_request_error';
    return { error: { message: this.message, type, param, code } };
  }
}

/** s, for a client whose request found no memory: until one of those beside it is likely to be done. */
const MEMORY_RETRY = 10;

/** Null for a defect of ours. What is 500 or above is for the log as it is: the answer only says that it is not the client's fault. */
export function asApiError(error: unknown): ApiError | null {
  if (error instanceof ApiError) {
    return error;
  }
  switch ((error as { code?: unknown } | null)?.code) {
    case 'E_AUDIO':
      return new ApiError(400, oneLine(error), { param: 'file', code: 'invalid_audio' });
    case 'E_CONFIG':
      return new ApiError(400, oneLine(error), { code: 'invalid_value' });
    case 'E_LIMIT':
      return new ApiError(503, 'The server has not enough memory for this request now: try again later.', {
        code: 'out_of_memory',
        headers: { 'retry-after': String(MEMORY_RETRY) },
      });
    case 'E_NUMERIC':
      return new ApiError(500, 'The model failed on this recording.', { code: 'model_failure' });
    case 'ENOSPC':
    case 'EDQUOT':
      return new ApiError(507, 'There is no room on the disk for the file.', { code: 'no_space' });
    default:
      return null;
  }
}

function oneLine(error: unknown): string {
  return presentError(error).text.replaceAll('\n', ' ');
}
