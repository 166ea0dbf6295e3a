/* The dialogue with tasuki-worker. One JSON object a line, both ways.
 *
 *   daemon -> worker   {"id": 7, "op": "train", ...}
 *   worker -> daemon   {"id": 7, "event": "progress", "step": 3, "steps": 20, "loss": 2.1,
 *                       "images_per_second": 310.0}                    any number, >= 2 a second
 *                      (open, rescan: a step is an image looked at)
 *                      {"id": 7, "ok": true, "result": {...}}          once
 *                      {"id": 7, "ok": false, "code": -22, "category": "data", "error": "..."}
 *
 * code: a negative errno; category: one of err_category_name().
 *
 * Requests are looked at between any two batches: a pause, stop, evaluation or blend asked for in
 * the middle of training is served within one batch, and training then goes on. One training at
 * a time (-EBUSY); all else but pause, resume, until and stop queues in order, before training.
 *
 *  open      cfg, classes, private_classes (path; absent: none; more names, one a line, for the
 *            outputs after the class list's: the model is that of the class list alone),
 *            data {path, test_path, validation_path, stay_path, center_crop, validation_share,
 *            test_share, seed, limit, memory_max_bytes; width, height, channels: 0, or as the cfg
 *            has them}, augment {shift_px, flip, blur, brightness},
 *            cage {sandbox ("on", "require", "off"), readable [paths], writable [folders]} (absent: off):
 *            entered before any of the paths is read (cage.h); what the request itself names to be read,
 *            can be,
 *            fold, absent ("train", "mask"), step_ms (0: none), engine ("auto", "onednn",
 *            "darknet"), precision ("auto", "f32", "bf16"), threads (0: one a processor that it may
 *            run on), memory_max_bytes (0: no limit)
 *                                         first of all, once
 *            -> images {train, validation, test}, stay (images of stay_path), bytes (of their files), snapshot {train,
 *               validation, test}, classes, model, skipped, skipped_names [..], engine ("onednn",
 *               "darknet+openblas", "darknet": what computes), precision ("f32", "bf16"), threads,
 *               cage {parts, missing}: by what the worker is confined, and what this machine cannot
 *            absent: "mask": outputs that no training image has are left out of the softmax in a
 *            training, and their rows in the last weights are saved as they were in the weights it
 *            began with, to the bit (where images come or go meanwhile, as they were when the output
 *            was left out last); evaluations and classifications leave out what no class name stands
 *            for. -EOPNOTSUPP: the cfg's last weights have no row for each output. "train": all
 *            outputs take part, as in Darknet.
 *            step_ms: a step of a training takes at least so long, at most WORKER_STEP_MS_MAX; what
 *            is left of it is waited for after the step, while requests are served. It counts in the
 *            training's seconds. Measuring statistics after the last step is not paced.
 *  rescan    -> as open, and changed
 *  train     weights (absent: new ones from seed), out, epochs or steps, seed, epoch (number of the
 *            first epoch: it decides the order of images and their augmentation), schedule_seen
 *            (images that the learning rate's schedule starts from; absent: as the weights say),
 *            learning_rate_scale (absent: 1), stay (bool; absent: false; also visits the images of
 *            stay_path: what comes of it must not leave the machine), momentum (path of a file;
 *            absent: none),
 *            until_ms (CLOCK_BOOTTIME; absent: no end): it fails with -ETIME at the first batch after
 *            that, whatever became of the daemon: what it holds a lease for, somebody else may
 *            be given then
 *            The momentum file belongs to one checkpoint, which it names: if that is `weights`, training
 *            goes on with it, else from none; it is written with `out`. It stays on its machine.
 *            If `weights` is what this worker saved last, it goes on with the network as it is in
 *            memory, momentum included.
 *            -> out, checkpoint (sha256), images, steps, seconds, settle_seconds, images_per_second, loss,
 *               seen, replaced, replaced_first
 *            settle_seconds: of `seconds`, for measuring statistics after the last step, which
 *            images_per_second leaves out;
 *            images: of whole steps, the last of an epoch filled up from its beginning; loss:
 *            mean over the steps of the last epoch; seen: images in the lineage of the weights.
 *            replaced: images whose files were gone or changed since the data were read, in whose
 *            place others were taken; replaced_first: what was wrong with the first. Absent: none
 *            Loss or weights that turn non-finite: fails with -EDOM, out is not written.
 *  evaluate  weights, split, confusion (bool), outcomes (bool)
 *            -> n, correct, accuracy, loss, per_class [{class, name, n, correct}], confusion [[..]]
 *               (row: truth; only up to WORKER_CONFUSION_MAX classes), outcomes (only up to
 *               WORKER_OUTCOMES_MAX images), snapshot, seconds, images_per_second, checkpoint
 *               (sha256 of the weights file)
 *            outcomes: WORKER_OUTCOME_DIGITS hexadecimal digits an image, in the order of the split,
 *            end to end: bit 15 (WORKER_OUTCOME_CORRECT): its class was found; the others: its loss
 *            -log(p of its class), at most WORKER_OUTCOME_LOSS_MAX, in steps of
 *            1/WORKER_OUTCOME_LOSS_STEPS of that. The order follows the images' contents, so equal
 *            snapshots have equal order: answers of one snapshot can be compared image by image.
 *            An image whose file is gone or changed since the data were read fails it with -ESTALE:
 *            rescan first.
 *            class: number of the output; name: from the class list, the data, or the number again
 *  blend     a, b, alpha, out, settle (bool) -> out, checkpoint: (1 - alpha) a + alpha b
 *            settle: its statistics of batch normalization, which are those of no network, are
 *            measured on up to 2,048 training images before it is saved, as they are at the end of
 *            a training (-ENODATA without such; -ENOMEM: no room for a second network to train)
 *  merge     inputs [{weights, share}], out, settle (bool) -> out, checkpoint
 *            The mean of 2 to WEIGHTS_INPUTS_MAX files weighted by their shares (more than 0, in any
 *            unit), with pooled statistics of batch normalization: weights_merge()
 *  first     seed, out -> out, checkpoint: new weights, as a training from that seed begins with
 *  noise     weights, base, out, clip, noise, first_row (absent: the number of outputs) -> out, checkpoint,
 *            norm: weights_noise()
 *  encode    weights, out, decoded, encoding ("auto", "zstd", "f16", "int8", "delta"), bases [paths]
 *            (absent: none; for "delta", which takes the one that the weights are nearest to; without
 *            one it is "int8"), split (absent: nothing is measured), tolerance (0..1; absent: 0)
 *            -> encoding, checkpoint (sha256 of `decoded`: what a receiver makes of `out`), payload
 *               (sha256 of `out`), and with "delta" base (index into bases) and step; where it
 *               was measured: what an evaluation of `decoded` answers, and whole_correct (images that
 *               `weights` are right about)
 *            "auto": the smallest one that is right on at most tolerance x n fewer images of the
 *            split than `weights` are (on one fewer where that is less and not 0); without images
 *            one that is too fine to be measured. encoding "raw": none is, or none is smaller:
 *            checkpoint is that of `weights`, and there is no `out`. Any other: that one, whatever
 *            it does to the score; "delta" in finer steps while the score is worse by more than that.
 *  decode    payload, encoding, base (path; with "delta"), out -> out, checkpoint (common/encoding)
 *  classify  weights, images [paths], center_crop
 *            -> results [{image, class, name, score}] or, for an unreadable one, {image, error};
 *               checkpoint. Requests and answers must fit into a line: ask for a thousand at most
 *  sheet     split, columns, rows, out    -> out           a contact sheet of the data, PNG
 *  until     until_ms                     -> (nothing)      another end for the training in hand
 *  pause, resume                          -> (nothing)      training stands still in between
 *  stop      target (a request's id)      -> (nothing); the target fails with -ECANCELED
 */
#pragma once

#define WORKER_FD		3
/* What `open` may ask for; the first is the default. */
#define WORKER_ENGINES		{"auto", "onednn", "darknet", NULL}
#define WORKER_PRECISIONS	{"auto", "f32", "bf16", NULL}
#define WORKER_ABSENTS		{"train", "mask", NULL}
#define WORKER_STEP_MS_MAX	60000
#define WORKER_SANDBOXES	{"on", "require", "off", NULL}
#define WORKER_OUT_OF_MEMORY	"tasuki-worker: out of memory" /* its last line, then */
#define WORKER_FORBIDDEN	"tasuki-worker: forbidden system call: " /* likewise, and which one (cage.h) */
#define WORKER_EXIT_FORBIDDEN	3
#define WORKER_CONFUSION_MAX	100
#define WORKER_OUTCOMES_MAX	  100000 /* images; they must fit into a line */
#define WORKER_OUTCOME_DIGITS	  4
#define WORKER_OUTCOME_CORRECT	  0x8000u
#define WORKER_OUTCOME_LOSS_STEPS 32767
#define WORKER_OUTCOME_LOSS_MAX	  27.6310211 /* -log 1e-12: no loss counts for more */
#define WORKER_PROGRESS_MS	400 /* interval of progress lines */
#define WORKER_BASES_MAX	8
#define WORKER_CLASSIFY_MAX	10000 /* images of one request */
