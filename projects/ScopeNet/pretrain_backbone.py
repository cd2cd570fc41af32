"""Make the weights that the detectors of a dataset preset start from."""

import argparse

from experiments.presets import apply_preset, read_preset
from experiments.pretraining import pretrain
from scopenet.config_file import load_config
from scopenet.engine.checks import check_datasets
from scopenet.errors import ConfigError, one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="Digits", help="whose backbone and data to take")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cfg = load_config("Base-ScopeNet.yaml")
    apply_preset(cfg, read_preset(args.preset))
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    if not cfg.MODEL.WEIGHTS or "://" in cfg.MODEL.WEIGHTS:
        raise ConfigError(f"Preset {args.preset} names no file in MODEL.WEIGHTS to be made.")
    check_datasets((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
    share = pretrain(cfg, args.iterations, args.seed)
    print(f"{cfg.MODEL.WEIGHTS}: {share:.1%} of new crops named rightly")


if __name__ == "__main__":
    with one_sentence_errors():
        main()
