"""Notes on the tables, stored with the results."""

CHIPS_NOTES = (
    "A chip is good if it receives at least 99.99 % of all 28,561 inputs of scenario 1 right, "
    "each sent once with its noise. low, high: 95 % interval of the yield (Clopper-Pearson); "
    "where none of the first 20 chips is good, no more are drawn. right %: of the inputs "
    "sent; no more are sent once a chip is bad. tolerated: factor of all errors of the "
    "technology, a power of two, at which all chips drawn for it (at most 5) are good; empty "
    "where there is none down to 1/256, or it was not looked for. pJ/bit: of one server's "
    "bits, with the target's parts those of silicon; of direct receivers with comparators and "
    "adders. commit: the code that measured the row."
)

NEEDS_NOTES = (
    "Every error of a technology alone on an otherwise ideal chip, not calibrated. tolerated: "
    "factor by which it may be multiplied, a power of two from 1/256 to 16, so that all chips "
    "drawn for it (at most 5) receive 99.99 % of all inputs right; empty where none does. "
    "laser_power: shot and thermal noise together."
)

LEARNING_NOTES = (
    "4 virtual servers, codes of 8 bits in blocks of 256. Weights, batches and their order "
    "are those of the seed in every arm; the partner averages the codes exactly. low, high: "
    "95 % interval of the mean difference (Student's t); p Holm: adjusted for all comparisons "
    "of a model. smallest seen: the true difference that is found so with a chance of 80 %, if "
    "the other arms have none. wrong codes: share of received codes that are wrong, as met in "
    "training. gradient error: root mean square of the averaged gradient's error over the "
    "gradient's, quantisation included. bit: 0 is the last place. Short trainings of small "
    "models: the first steps of learning."
)
